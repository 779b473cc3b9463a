"""Seal the passwords of databases, and seal them anew when keys change."""
