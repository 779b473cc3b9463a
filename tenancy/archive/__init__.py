"""Make and load archives: one tenant's rows (or the catalog's) as one encrypted stream, for every product.

``docs/reference/archives.md`` describes the format.
"""
