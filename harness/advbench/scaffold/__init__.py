"""Files of a new plugin."""

from __future__ import annotations

from advbench.scaffold.package import KINDS, NewPackage

__all__ = ["KINDS", "NewPackage"]
