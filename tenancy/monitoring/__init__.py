"""Observe tenants: activity, errors, sizes, inspection, and the reports of the console."""
