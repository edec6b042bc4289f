"""Attacks that Foolbox implements."""
