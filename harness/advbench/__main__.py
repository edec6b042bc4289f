"""``python -m advbench`` is the ``advbench`` command."""

from __future__ import annotations

import sys

from advbench.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
