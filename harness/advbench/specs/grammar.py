r"""The grammar of specs: ``name[:key=value[,key=value…]]``, chained with ``+``, swept with ``{…}``.

::

    chain  = term {"+" term}
    term   = name [":" item {"," item}]
    item   = key "=" (value | "{" value {"," value} "}")
    value  = bare text without , { } + " | "quoted text with \" and \\"

A parameter that takes components has their specs, separated by ``|``, as its value: ``of="pgd:eps=0.3 | square"``.

Spaces between these parts are ignored. A ``+`` inside an exponent (``1e+3``) belongs to the number. Control characters
are not allowed, not even in quotes.

On an axis of a matrix, ``alias=spec`` gives a component an alias; see :mod:`advbench.specs.aliases`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
import unicodedata
from collections.abc import Iterator

from advbench.errors import SpecError

__all__ = ["MOST_SPECS", "Term", "expand", "parse_chain", "sweep_size"]

MOST_SPECS = 100_000
"""The largest number of specs that the sweeps of one spec may stand for."""

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][-+]?[0-9]+(?= *(?:[,}+]|$))")
_BARE = re.compile(r'[^,{}+"]+')
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_ESCAPED = re.compile(r"\\(.)")
_JOINERS = "\u200c\u200d"
"""Invisible characters that some scripts and emoji need, as in names of files."""


@dataclasses.dataclass(frozen=True)
class Term:
    """One component's name with its parameters as text; a swept parameter has several values."""

    name: str
    items: tuple[tuple[str, tuple[str, ...]], ...] = ()


def parse_chain(text: str) -> list[Term]:
    """Parses a spec into the terms of its chain.

    Raises:
        SpecError: The text does not follow the grammar; the message shows the position.
    """
    for character in text:
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS:
            raise SpecError(f"{text!r}: a spec cannot contain the control character U+{ord(character):04X}; remove it")
    return list(_Parser(text).chain())


def expand(terms: list[Term]) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """All combinations of a chain's swept values, in the order written, the last sweep varying fastest.

    Raises:
        SpecError: There are more than :data:`MOST_SPECS`; raised by the call, before anything is expanded.
    """
    count = sweep_size(terms)
    if count > MOST_SPECS:
        name = "+".join(term.name for term in terms)
        raise SpecError(
            f"the sweeps of {name!r} stand for {count:,} specs, more than {MOST_SPECS:,}; give fewer values"
        )
    return _combinations(terms)


def sweep_size(terms: list[Term]) -> int:
    """The number of combinations of a chain's swept values, without expanding them."""
    return math.prod(len(values) for term in terms for _, values in term.items)


def _combinations(terms: list[Term]) -> Iterator[list[tuple[str, dict[str, str]]]]:
    axes = [values for term in terms for _, values in term.items]
    for choice in itertools.product(*axes):
        values = iter(choice)
        yield [(term.name, {key: next(values) for key, _ in term.items}) for term in terms]


class _Parser:
    """A recursive-descent parser over one spec."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0

    def chain(self) -> Iterator[Term]:
        yield self.term()
        while self.skip_spaces() < len(self.text):
            self.expect("+")
            yield self.term()

    def term(self) -> Term:
        name = self.match(_NAME, "a component's name")
        if not self.accept(":"):
            return Term(name)
        items: list[tuple[str, tuple[str, ...]]] = []
        while True:
            key = self.match(_KEY, "key=value")
            if any(key == known for known, _ in items):
                raise SpecError(f"{self.text!r}: {key} is given twice")
            self.expect("=")
            items.append((key, tuple(self.values())))
            if not self.accept(","):
                return Term(name, tuple(items))

    def values(self) -> list[str]:
        if not self.accept("{"):
            return [self.value()]
        values = [self.value()]
        while self.accept(","):
            values.append(self.value())
        self.expect("}")
        return values

    def value(self) -> str:
        quoted = _QUOTED.match(self.text, self.skip_spaces())
        if quoted:
            self.position = quoted.end()
            return _ESCAPED.sub(r"\1", quoted.group(1))
        number = _NUMBER.match(self.text, self.position)
        if number:
            self.position = number.end()
            return number.group()
        return self.match(_BARE, "a value").strip()

    def match(self, pattern: re.Pattern[str], wanted: str) -> str:
        match = pattern.match(self.text, self.skip_spaces())
        if not match:
            raise self.error(wanted)
        self.position = match.end()
        return match.group()

    def accept(self, character: str) -> bool:
        if self.text.startswith(character, self.skip_spaces()):
            self.position += 1
            return True
        return False

    def skip_spaces(self) -> int:
        """Goes on to the next character that is no space; returns its position."""
        while self.text.startswith(" ", self.position):
            self.position += 1
        return self.position

    def expect(self, character: str) -> None:
        if not self.accept(character):
            raise self.error(repr(character))

    def error(self, wanted: str) -> SpecError:
        rest = self.text[self.position :]
        where = f"at {rest!r}" if rest else "at its end"
        if self.text.startswith("'") or rest.startswith("'"):
            return SpecError(f"{self.text!r}: expected {wanted} {where}; quote values with \", and not with '")
        if rest.startswith("{") and ":" in self.text[: self.position].rpartition("=")[0].partition("=")[2]:
            advice = 'a value with specs that have parameters stands in quotes, such as of="pgd:eps=0.1 | fgsm"'
            return SpecError(f"{self.text!r}: expected {wanted} {where}; {advice}")
        return SpecError(f"{self.text!r}: expected {wanted} {where}; a spec is name:key=value,key=value")
