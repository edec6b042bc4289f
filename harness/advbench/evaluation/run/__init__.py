"""What runs in the driver: the schedule, the worker pool, estimates, the manifest."""
