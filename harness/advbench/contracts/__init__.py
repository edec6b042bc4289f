"""The contracts of components, as checks that the evaluation and the conformance kit share."""
