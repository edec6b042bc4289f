"""Other libraries: each module returns their attacks by the comparisons' names, with equal settings."""
