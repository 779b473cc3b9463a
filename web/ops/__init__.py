"""What operators ask of a running process: health, readiness, metrics."""
