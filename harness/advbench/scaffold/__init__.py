"""Files of a new plugin."""

from __future__ import annotations

from advbench.scaffold.names import OTHER_NAME, same_distribution
from advbench.scaffold.package import KINDS, NewPackage

__all__ = ["KINDS", "OTHER_NAME", "NewPackage", "same_distribution"]
