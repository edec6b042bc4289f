"""Executors: where the tasks of a matrix run."""
