"""The former place of ``Activity``: import it from ``tenancy``."""

from tenancy import former

__getattr__ = former.module(__name__, {"Activity"})
