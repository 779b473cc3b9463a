"""People: accounts, passwords, preferences."""
