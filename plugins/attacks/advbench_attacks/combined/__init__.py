"""Attacks that run other attacks."""
