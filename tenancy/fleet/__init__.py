"""Work on all tenants at once: bring them to a revision, know who is behind, check them deeply."""
