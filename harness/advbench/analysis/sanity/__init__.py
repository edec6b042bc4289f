"""Sanity checks: signs in stored results that an evaluation is not sound."""

from __future__ import annotations

from advbench.analysis.sanity.examination import CRITERIA, examine, unexamined
from advbench.analysis.sanity.finding import Finding

__all__ = ["CRITERIA", "Finding", "examine", "unexamined"]
