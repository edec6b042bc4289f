"""Transformations that defenses are compared with."""
