"""Attacks as in Foolbox 2.3.0 of December 2019, flaws included, to reproduce results that were obtained with it."""
