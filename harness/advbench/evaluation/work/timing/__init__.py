"""Measurements in a worker, from which the driver estimates how long a run takes."""
