"""Other libraries: each module gives their attacks by the names of the contests, with equal settings."""
