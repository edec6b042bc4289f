"""Attacks that query scores or labels only, and noise."""
