"""The former place of ``new_revision``: import it from ``tenancy``."""

from tenancy import former

__getattr__ = former.module(__name__, {"new_revision"})
