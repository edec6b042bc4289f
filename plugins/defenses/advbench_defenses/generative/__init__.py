"""Generative models and autoencoders."""
