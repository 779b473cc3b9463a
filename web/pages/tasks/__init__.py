"""The tasks page: filters, saved views, quick add."""
