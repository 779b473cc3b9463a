"""What happens to one tenant: placed, provisioned, upgraded, suspended, deleted.

Each operation runs under a claim (a lease with a fencing token), one file per operation.
"""
