"""PostgreSQL: a database and a login per tenant."""
