"""The matrix: plan, work, run."""
