"""Microsoft SQL Server: a database and a login per tenant."""
