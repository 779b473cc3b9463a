"""SQLite: a file per tenant."""
