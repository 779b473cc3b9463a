"""The schema of a tenant's database: migrations, ledger, identity row, and the comparison of schemas.

Nothing here knows the catalog or a database product; callers pass an open connection.
"""
