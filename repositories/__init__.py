"""The application's tables and queries, each scoped to an owner.

Repositories work in sessions of ``tenancy`` and are used by ``web``, ``utils`` and ``compose``.
"""
