"""Commands that plugins add to the command line. Imports neither torch nor rich."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

__all__ = ["StudyCommand"]


@dataclasses.dataclass(frozen=True)
class StudyCommand:
    """A study that ``advbench reproduce NAME`` runs: suites, and a report of what their results mean.

    The flags that say where and how to run, ``--seed``, ``--output`` and the plugin flags are the same for every
    study; the command line declares them.

    Attributes:
        name: What follows ``advbench reproduce``: lower case, digits, ``-``, ``_`` and ``.``, beginning with a letter.
        help: What the study is, in one line.
        run: Given an :class:`advbench.results.StudySession`, runs the study and returns the exit code: 0, or 1 if a
            cell failed. It imports what it needs inside the function, so that ``--help`` does not import torch.
        add_arguments: Adds the study's own flags to a parser, or to a group of one.
    """

    name: str
    help: str
    run: Callable[[Any], int]
    add_arguments: Callable[[argparse._ActionsContainer], None] | None = None
