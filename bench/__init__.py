"""Measure Unify beside what people would pick instead: ``python -m bench``, or one module at a time."""
