"""Aliases: ``alias=spec`` on an axis, such as ``mine=torch-module:build=net.py:Net``, for tables and pages."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from advbench.errors import UsageError
from advbench.specs.formatting import full_spec, short_spec

if TYPE_CHECKING:
    from advbench.api.component import Component
    from advbench.specs.chain import Chain

__all__ = ["Alias", "find_aliases", "split_alias"]

_ALIAS = re.compile(r"([A-Za-z][A-Za-z0-9._-]{0,39})=(.*)", re.DOTALL)


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
            raise UsageError(f"--{kind} {text}: {spec!r} is a sweep, which has no alias; give each of its specs one")
        for other, another in selected:
            if other != text and name in (split_alias(other)[0] or short_spec(another), split_alias(other)[1]):
                raise UsageError(f"--{kind} {text}: {other!r} is called {name!r}, too; use another alias")
        aliases.append(Alias(kind[:-1], full_spec(component), name))
    return tuple(aliases)
