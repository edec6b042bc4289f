"""Rotations and shifts."""
