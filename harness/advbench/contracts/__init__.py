"""Checks that hold components to their contracts; the evaluation and the conformance kit share them."""
