"""What is known of tenants: activity, errors, sizes, inspection, and the reports that the console shows."""
