"""PostgreSQL: a database and a login a tenant."""
