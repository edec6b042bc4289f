"""Sanity checks: what in stored results says that an evaluation is not to be believed."""

from __future__ import annotations

from advbench.analysis.sanity.examination import CRITERIA, examine, unexamined
from advbench.analysis.sanity.finding import Finding

__all__ = ["CRITERIA", "Finding", "examine", "unexamined"]
