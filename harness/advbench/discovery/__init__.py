"""Discovery: loading plugins into a registry of components, and computing digests of their code."""
