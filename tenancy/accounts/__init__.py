"""People: accounts, passwords, preferences."""

from tenancy import former

__getattr__ = former.module(__name__, {"AccountRules", "Accounts"})
