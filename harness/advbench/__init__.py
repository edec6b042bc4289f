"""advbench: a plugin-based benchmark for adversarial robustness.

Plugin authors import from :mod:`advbench.api`; :func:`advbench.matrix` does from Python what the command does.
Importing this package alone loads neither torch nor any plugin, so that ``advbench --help`` answers at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from advbench._version import __version__

if TYPE_CHECKING:
    from advbench.live import AdversarialImages, Results, matrix

__all__ = ["AdversarialImages", "Results", "__version__", "matrix"]

_LIVE = ("AdversarialImages", "Results", "matrix")


def __getattr__(name: str) -> Any:
    if name not in _LIVE:
        raise AttributeError(f"module 'advbench' has no attribute {name!r}")
    from advbench import live

    return getattr(live, name)
