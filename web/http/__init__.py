"""What every request and answer passes through: WSGI, headers, CSRF, errors, logs, JSON, cursors, rate limits."""
