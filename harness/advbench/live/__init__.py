"""advbench from Python: the matrix as a function, with live objects beside specs."""

from __future__ import annotations

from advbench.live.comparison import Comparison
from advbench.live.evaluate import matrix
from advbench.live.results import AdversarialImages, Results

__all__ = ["AdversarialImages", "Comparison", "Results", "matrix"]
