"""From a user to an open, guarded connection: the router, engines and their cache, guards, limits, plain DBAPI."""
