"""Microsoft SQL Server: a database and a login a tenant."""
