"""Aliases: ``alias=spec`` on an axis, such as ``mine=torch-module:build=net.py:Net``, for tables and pages."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from advbench.errors import UsageError
from advbench.specs.formatting import full_spec, short_spec

if TYPE_CHECKING:
    from advbench.api.component import Component
    from advbench.specs.chain import Chain

__all__ = ["Alias", "find_aliases", "is_alias", "similar_alias", "split_alias"]

_LONGEST = 40
_NAME = rf"[A-Za-z][A-Za-z0-9._-]{{0,{_LONGEST - 1}}}"
_ALIAS = re.compile(rf"({_NAME})=(.*)", re.DOTALL)


class Alias(NamedTuple):
    """The alias of a component.

    Attributes:
        axis: ``dataset``, ``model``, ``attack`` or ``defense``.
        spec: The full spec of the component.
        name: What tables and pages call it.
    """

    axis: str
    spec: str
    name: str


def is_alias(name: str) -> bool:
    """Whether a text has the form of an alias: a letter, then up to 39 letters, digits, ``.``, ``_`` and ``-``."""
    return re.fullmatch(_NAME, name) is not None


def similar_alias(text: str, kind: str) -> str:
    """An alias that resembles a text that has not the form of one, for messages.

    Args:
        text: The text, such as ``my cnn``.
        kind: What the alias stands for, such as ``model``.

    Returns:
        Such as ``my-cnn``.
    """
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", plain)[:_LONGEST].strip("-._")
    if not name:
        return f"my-{kind}"
    return name if is_alias(name) else f"{kind}-{name}"[:_LONGEST].strip("-._")


def split_alias(text: str) -> tuple[str, str]:
    """Splits ``alias=spec`` into both; the alias is empty if the text has none.

    The first ``=`` of a spec follows a ``:``, so an ``=`` before any ``:`` ends an alias.
    """
    match = _ALIAS.fullmatch(text)
    return (match[1], match[2]) if match and "=" in text.partition(":")[0] else ("", text)


def find_aliases(kind: str, selected: Sequence[tuple[str, Component | Chain]]) -> tuple[Alias, ...]:
    """The aliases of the components of an axis.

    Args:
        kind: The axis, such as ``models``.
        selected: Each component with the text that selects it.

    Raises:
        UsageError: An alias stands for several components, or is what another component is called.
    """
    aliases = []
    for text, component in selected:
        name, spec = split_alias(text)
        if not name:
            continue
        if sum(other == text for other, _ in selected) > 1:
            raise UsageError(f"{kind}: {name!r}: {spec!r} is a sweep, which has no alias; give each of its specs one")
        for other, another in selected:
            if other != text and name in {*split_alias(other), short_spec(another), full_spec(another)}:
                raise UsageError(f"{kind}: {name!r}: {other!r} is called {name!r}, too; use another alias")
        aliases.append(Alias(kind[:-1], full_spec(component), name))
    return tuple(aliases)
