"""The exceptions of advbench, and the exit code that each becomes on the command line.

::

    AdvbenchError
    ├── UsageError          2  what the user gave cannot be used; one line, nothing was lost
    │   ├── SpecError          a component's text is malformed
    │   ├── ParameterError     a parameter is unknown, of the wrong type or out of range
    │   ├── UnknownNameError   nothing is registered under that name
    │   ├── DataError          a dataset is missing or damaged
    │   ├── WeightsError       weights are missing, truncated or not the recorded ones
    │   └── StoreError         the store cannot be written or read
    ├── ContractError          a component broke its contract while it ran: its cells become ``ERR``
    │   └── ProcessChangedError  it changed the process for all others
    └── PluginError         4  a plugin could not be used, under ``--strict-plugins`` or in ``advbench check``

Anything else that reaches the command line is an internal error (exit code 3).
This module imports nothing, so that the command line can use it before torch is loaded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

__all__ = [
    "AdvbenchError",
    "ContractError",
    "DataError",
    "ParameterError",
    "PluginError",
    "ProcessChangedError",
    "SpecError",
    "StoreError",
    "UnknownNameError",
    "UsageError",
    "WeightsError",
    "blamed",
    "describe",
]

_LONGEST = 500

_BLAME = "raised by "


class AdvbenchError(Exception):
    """KeyContext of all errors that advbench raises on purpose."""


class UsageError(AdvbenchError):
    """What the user gave cannot be used; the message names what, where and what to do."""


class SpecError(UsageError):
    """The text of a component or suite is malformed."""


class ParameterError(UsageError):
    """A parameter is unknown, of the wrong type or out of its range."""


class UnknownNameError(UsageError):
    """Nothing, or more than one thing, is registered under a name."""


class DataError(UsageError):
    """A dataset is missing, incomplete or not the recorded one."""


class WeightsError(UsageError):
    """Trained weights are missing, truncated or not the recorded ones."""


class StoreError(UsageError):
    """The store cannot be written or read."""


class ContractError(AdvbenchError):
    """A component broke its contract while it ran."""


class ProcessChangedError(ContractError):
    """A component has changed the process for all others.

    Args:
        changed: What, in words.
    """

    def __init__(self, changed: Sequence[str]) -> None:
        super().__init__(f"{' and '.join(changed)} changed for the whole process")
        self.changed = tuple(changed)


class PluginError(AdvbenchError):
    """A plugin could not be loaded or registered."""


@contextlib.contextmanager
def blamed(component: str) -> Iterator[None]:
    """QueryLog on an exception that leaves the block whose code raised it, unless one inside has done so.

    Args:
        component: Its kind and name, such as ``defense 'jpeg'``.
    """
    try:
        yield
    except AdvbenchError:
        raise  # its message names the component
    except BaseException as error:
        if not _culprit(error):
            # As add_note() of Python 3.11, which 3.10 does not have.
            vars(error)["__notes__"] = [*getattr(error, "__notes__", ()), f"{_BLAME}{component}"]
        raise


def _culprit(error: BaseException) -> str:
    notes = getattr(error, "__notes__", ())
    return next((note for note in notes if isinstance(note, str) and note.startswith(_BLAME)), "")


def describe(error: BaseException) -> str:
    """An exception as one line of printable text, cut where it is very long, with the component that raised it."""
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be read)"
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    said = f"{type(error).__name__}: {line}" if line else type(error).__name__
    culprit = _culprit(error)
    return f"{said} ({culprit})" if culprit else said
