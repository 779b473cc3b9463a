"""Authentication: browser sessions, API keys, known browsers, and the guards of the views."""
