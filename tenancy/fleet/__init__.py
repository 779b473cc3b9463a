"""Operate on all tenants: migrate them to a revision, report which are behind, verify and repair them."""
