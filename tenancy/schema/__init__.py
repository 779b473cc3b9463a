"""What a tenant's database says of itself: its revisions, its ledger, whose it is, and how two schemas compare.

Nothing here knows the catalog or a database product; the rooms above hand in an open connection.
"""
