"""Discovery: entry points to a registry of components, and code to digests."""
