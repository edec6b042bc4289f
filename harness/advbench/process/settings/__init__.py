"""Settings of the process that a component may change: how each is read, compared and restored."""
