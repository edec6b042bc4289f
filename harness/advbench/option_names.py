"""Names of options in messages, as the caller writes them: flags of a command, or keyword arguments of Python.

The same code runs for ``advbench matrix --cell-timeout 5`` and for ``advbench.matrix(cell_timeout=5)``. Messages that
are stored or shown with results, and those of other threads and processes, reach readers of both kinds. They name what
an option sets, such as the cell timeout, instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar

__all__ = ["called_from_python", "option"]

_FROM_PYTHON = ContextVar("from_python", default=False)


@contextlib.contextmanager
def called_from_python() -> Iterator[None]:
    """Names options as keyword arguments within the block, in this thread."""
    token = _FROM_PYTHON.set(True)
    try:
        yield
    finally:
        _FROM_PYTHON.reset(token)


def option(name: str, *values: object) -> str:
    """An option as the caller writes it.

    Args:
        name: The keyword argument, such as ``cell_timeout``.
        *values: What it is set to. Several values are a list.

    Returns:
        ``--cell-timeout 5`` or, from Python, ``cell_timeout=5``.
    """
    if not _FROM_PYTHON.get():
        return " ".join(["--" + name.replace("_", "-"), *map(str, values)])
    if not values:
        return name
    texts = [str(value) if isinstance(value, (int, float)) else repr(str(value)) for value in values]
    return f"{name}={texts[0] if len(texts) == 1 else '[' + ', '.join(texts) + ']'}"
