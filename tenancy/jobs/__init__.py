"""Do work that outlives the request which asked for it: jobs, the workers that run them, and schedules."""
