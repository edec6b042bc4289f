"""Suites of common defenses, as baselines for a new one, each under oblivious and adaptive attacks."""
