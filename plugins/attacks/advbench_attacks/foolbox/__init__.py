"""Attacks of Foolbox."""
