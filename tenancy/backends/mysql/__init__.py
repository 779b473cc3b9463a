"""MySQL and MariaDB: a database and a login a tenant."""
