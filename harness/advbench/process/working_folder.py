"""Changing the working directory for a while."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

__all__ = ["working_folder"]


@contextlib.contextmanager
def working_folder(folder: Path | None) -> Iterator[None]:
    """Makes a folder the working directory within the block; None changes nothing.

    Raises:
        OSError: The folder cannot be entered.
    """
    if folder is None:
        yield
        return
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
