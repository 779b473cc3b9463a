"""What every request and response passes through: WSGI, headers, CSRF, errors, logs, JSON, cursors, rate limits."""
