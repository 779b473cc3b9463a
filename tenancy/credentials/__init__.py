"""Encrypt the stored passwords of databases, and re-encrypt them when keys change."""
