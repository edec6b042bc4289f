"""Attacks that search for the smallest perturbation."""
