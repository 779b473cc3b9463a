"""The events pages: month and week, times and zones, and the calendar feed."""
