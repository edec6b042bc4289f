"""advbench: a plugin-based benchmark for adversarial robustness.

Plugin authors import from :mod:`advbench.api`. Importing this package alone loads neither torch nor
any plugin, so that ``advbench --help`` answers at once.
"""

from __future__ import annotations

__version__ = "0.1.0"
