"""How much memory networks need, and how many images fit into it at once."""
