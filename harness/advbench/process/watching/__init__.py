"""Watches functions, classes and methods for replacements."""
