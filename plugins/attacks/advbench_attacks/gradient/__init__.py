"""Attacks that follow the gradient within a budget, and their searches for the least budget."""
