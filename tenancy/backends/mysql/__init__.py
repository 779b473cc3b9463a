"""MySQL and MariaDB: a database and a login per tenant."""
