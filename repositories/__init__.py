"""Keep the application's tables and its queries, each scoped to an owner.

Right of ``tenancy``, which gives the sessions; left of ``web``, ``utils`` and ``compose``, which ask the questions.
"""
