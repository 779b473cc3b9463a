"""Registration, login and logout, and carrying an unsent form over an expired session."""
