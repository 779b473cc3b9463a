"""Registered database servers, and the pool of databases kept ready on them."""
