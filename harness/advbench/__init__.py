"""advbench: a plugin-based benchmark for adversarial robustness.

Plugin authors import from :mod:`advbench.api`; :func:`advbench.matrix` does from Python what the command does.
Importing this package alone loads neither torch nor any plugin, so that ``advbench --help`` answers at once.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from advbench._lazy import lazy_names
from advbench._version import __version__

if TYPE_CHECKING:
    from advbench.live import AdversarialImages, Comparison, Results, matrix

__all__ = ["AdversarialImages", "Comparison", "Results", "__version__", "matrix"]

_MODULES = ("api", "results", "testing")

_get, _ = lazy_names(__name__, {"advbench.live": ("AdversarialImages", "Comparison", "Results", "matrix")})


def __getattr__(name: str) -> Any:
    return importlib.import_module(f"advbench.{name}") if name in _MODULES else _get(name)


def __dir__() -> list[str]:
    """The public names and modules, for tab completion."""
    return sorted({*__all__, *_MODULES})
