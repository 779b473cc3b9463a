"""Registration, login and logout, and the form that is carried over an expired session."""
