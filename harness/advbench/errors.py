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
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence

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
    "listed",
    "location",
    "nearest",
    "shorten_words",
]

_LONGEST = 500

_LONGEST_WORD = 400

_MISSPELT = 0.4
"""The share of a word's characters that may be wrong: ``nime`` is like ``mine``, and ``run`` is not like ``train``."""

_SHORTEST_PREFIX = 3

_LIBRARIES = frozenset({"advbench", "torch", "torchvision", "numpy", "scipy", "safetensors", "PIL", "pluggy"})
"""Packages that run a plugin's code or are called by it; an error's location is not theirs."""

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
    """Formats an exception as one line of printable text, truncated if very long.

    It begins with the exception's class, unless it is a :class:`UsageError`, and is followed by the component that
    raised it and the :func:`location` of the line.
    """
    try:
        text = str(error)
    except Exception:
        text = "(its message cannot be read)"
    line = one_line(text)
    line = line if len(line) <= _LONGEST else f"{line[:_LONGEST]}…"
    name = one_line(type(error).__name__)
    text = f"{name}: {line}" if line else name
    if line and isinstance(error, UsageError):  # written for users
        text = line
    origin = [part for part in (_culprit(error), "" if isinstance(error, AdvbenchError) else location(error)) if part]
    return f"{text} ({one_line(', '.join(origin))})" if origin else text


def location(error: BaseException) -> str:
    """The file and line of a plugin that raised an exception, such as ``plugin.py:57``; empty if it was no plugin.

    It is the innermost line of the first package, or single file, that is neither advbench nor one of the usual
    libraries. The file is relative to the package, so that it is the same on all machines.
    """
    package, found = "", ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        module = str(frame.f_globals.get("__name__", ""))
        top = module.partition(".")[0]
        if not top or top in _LIBRARIES or top in sys.stdlib_module_names or (package and top != package):
            continue
        parts = frame.f_code.co_filename.replace("\\", "/").split("/")
        depth = module.count(".") + 1 + (parts[-1] == "__init__.py")
        package, found = top, f"{'/'.join(parts[-depth:])}:{line}"
    return "" if "<" in found else found


def shorten_words(text: str) -> str:
    """Cuts very long words out of a message, such as a number of 5,000 digits, and joins its lines."""
    return " ".join(
        word if len(word) <= _LONGEST_WORD else f"{word[:60]}…{word[-20:]} ({len(word):,} characters)"
        for word in text.split()
    )


def nearest(word: str, names: Iterable[str]) -> str:
    """The name that is most like a misspelt word; an empty text if none is similar. Leading dashes do not count."""
    word = word.lstrip("-")
    ranked: list[tuple[float, int, str]] = []
    for position, name in enumerate(names):
        bare = name.lstrip("-")
        allowed = int(_MISSPELT * max(len(bare), len(word)) + 0.5)
        short, long = sorted((bare, word), key=len)
        if len(long) - len(short) <= allowed and (edits := _edits(word, bare)) <= allowed:
            ranked.append((edits, position, name))
        elif len(short) >= _SHORTEST_PREFIX and long.startswith(short):
            ranked.append((allowed + 0.5, position, name))
    return min(ranked)[2] if ranked and word else ""


def _edits(one: str, other: str) -> int:
    """How many characters must be added, left out, changed or swapped with the next to turn one text into another."""
    before, row = list[int](), list(range(len(other) + 1))
    for i, character in enumerate(one, 1):
        earlier, before, row = before, row, [i]
        for j, wanted in enumerate(other, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (character != wanted)))
            if i > 1 and j > 1 and character == other[j - 2] and one[i - 2] == wanted:
                row[-1] = min(row[-1], earlier[j - 2] + 1)
    return row[-1]


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names for a message such as ``there are: a, b``; of more than ``most`` it says how many are left out."""
    shown = list(names)
    more = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + more
