"""What operators query from a running process: health, readiness, metrics."""
