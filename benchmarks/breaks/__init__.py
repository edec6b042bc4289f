"""Adaptive attacks on one transformation each, with several approximations for its gradient.

Run from the root of the checkout::

    python -m benchmarks.breaks.median --data-dir data --limit 50
"""
