"""The classifier that an attack sees: the network, the defense in front of it, and a record of the queries."""
