"""SQLite: a file a tenant."""
