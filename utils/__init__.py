"""Hold the operators' tools: the ``unify`` commands and the numbered ``setup_user_database`` menu."""
