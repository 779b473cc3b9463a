"""The former place of ``Keyring`` and ``generate_key``: import them from ``tenancy``."""

from tenancy import former

__getattr__ = former.module(__name__, {"Keyring", "generate_key"})
