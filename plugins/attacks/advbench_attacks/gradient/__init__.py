"""Gradient attacks with a fixed budget, and their searches for the smallest budget."""
