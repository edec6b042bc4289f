"""The exceptions of advbench, and the exit code that each becomes on the command line.

::

    AdvbenchError
    ├── UsageError          2  the user's input cannot be used; a one-line message, and no results are lost
    │   ├── SpecError          a component's text is malformed
    │   ├── ParameterError     a parameter is unknown, of the wrong type or out of range
    │   ├── UnknownNameError   nothing is registered under that name
    │   ├── DataError          a dataset is missing or damaged
    │   ├── WeightsError       weights are missing, truncated or not the recorded ones
    │   └── StoreError         the store cannot be written or read
    ├── ContractError          a component violated its contract at run time: its cells become ``ERR``
    │   └── ProcessChangedError  it changed global state of the process
    └── PluginError         4  a plugin could not be used, under ``--strict-plugins`` or in ``advbench check``

Any other exception that reaches the command line is an internal error (exit code 3).
This module imports torch neither itself nor through others, so that the command line can use it without loading torch.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

from advbench.printable import one_line

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
    """Base class of all errors that advbench raises on purpose."""


class UsageError(AdvbenchError):
    """The user's input cannot be used. The message says what is wrong, where, and what to do."""


class SpecError(UsageError):
    """The text of a component or suite is malformed."""


class ParameterError(UsageError):
    """A parameter is unknown, of the wrong type or out of its range."""


class UnknownNameError(UsageError):
    """No component, or more than one, is registered under a name."""


class DataError(UsageError):
    """A dataset is missing, incomplete or not the recorded one."""


class WeightsError(UsageError):
    """Trained weights are missing, truncated or not the recorded ones."""


class StoreError(UsageError):
    """The store cannot be written or read."""


class ContractError(AdvbenchError):
    """A component violated its contract at run time."""


class ProcessChangedError(ContractError):
    """A component has changed global state of the process, which affects all other components.

    Args:
        changed: What it changed, in words.
    """

    def __init__(self, changed: Sequence[str]) -> None:
        super().__init__(f"{' and '.join(changed)} changed for the whole process")
        self.changed = tuple(changed)


class PluginError(AdvbenchError):
    """A plugin could not be loaded or registered."""


@contextlib.contextmanager
def blamed(component: str) -> Iterator[None]:
    """Adds a component's name to any exception that leaves the block, unless an inner block has added one.

    Args:
        component: Kind and name of the component, such as ``defense 'jpeg'``.
    """
    try:
        yield
    except AdvbenchError:
        raise  # its message already names the component
    except BaseException as error:
        if not _culprit(error):
            # Does what add_note() does in Python 3.11.
            vars(error)["__notes__"] = [*getattr(error, "__notes__", ()), f"{_BLAME}{component}"]
        raise


def _culprit(error: BaseException) -> str:
    notes = getattr(error, "__notes__", ())
    return next((note for note in notes if isinstance(note, str) and note.startswith(_BLAME)), "")


def describe(error: BaseException) -> str:
    """Formats an exception as one line of printable text, truncated if very long, with the component that raised it."""
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be read)"
    line = one_line(text)
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    name = one_line(type(error).__name__)
    text = f"{name}: {line}" if line else name
    culprit = _culprit(error)
    return f"{text} ({one_line(culprit)})" if culprit else text
