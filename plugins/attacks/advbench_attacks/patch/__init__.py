"""Patches: a region of the image that the attack may change at will."""
