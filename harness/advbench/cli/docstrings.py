"""Docstrings as text for a terminal."""

from __future__ import annotations

import re

__all__ = ["plain", "unwrapped", "without_parameters"]

_SECTIONS = (
    "Args",
    "Arguments",
    "Attributes",
    "Example",
    "Examples",
    "Note",
    "Notes",
    "Raises",
    "References",
    "Returns",
)
_PARAMETERS = ("Args", "Arguments", "Attributes", "Keyword Args", "Other Parameters", "Parameters")
_FIELD = re.compile(r":(?:param|type|ivar|vartype|keyword|arg|argument)\b[^:]*:")
_ITEM = re.compile(r"(?:[-*•]|\d+[.)]|\[\d+\]) ")


def plain(text: str) -> str:
    """Removes the markup of reStructuredText from a text: roles, literals, emphasis and links."""
    text = re.sub(r":[a-z]+(?::[a-z]+)?:`~?([^`<]*?)(?:\s*<[^`]*>)?`", _role, text)
    text = re.sub(r"``([^`]+)``", r"\1", text)
    text = re.sub(r"`([^`<]+?)\s*<([^`>]+)>`__?", r"\1 (\2)", text)
    text = re.sub(r"`([^`]+)`_{0,2}", r"\1", text)
    text = re.sub(r"\*\*(?=\S)([^*]+)(?<=\S)\*\*", r"\1", text)
    return re.sub(r"(?<=\w)::$", ":", text, flags=re.MULTILINE)


def unwrapped(docstring: str) -> str:
    """The paragraphs of a docstring, each on one line, without markup.

    Lists, indented text and sections such as ``Args:`` keep their lines and their indentation; a line that continues
    an item is joined to it.

    Args:
        docstring: The docstring, without common indentation, as from :func:`inspect.getdoc`.
    """
    lines: list[str] = []
    for line in docstring.splitlines():
        if lines and _continues(lines[-1], line):
            lines[-1] += f" {line.strip()}"
        else:
            lines.append(line.rstrip())
    return plain("\n".join(lines))


def without_parameters(docstring: str) -> str:
    """A docstring without its sections on parameters and attributes, in the styles of Google, NumPy and Sphinx.

    Args:
        docstring: The docstring, without common indentation, as from :func:`inspect.getdoc`.
    """
    kept: list[str] = []
    lines, style = docstring.splitlines(), ""
    for line, following in zip(lines, [*lines[1:], ""], strict=True):
        section = line.rstrip().rstrip(":")
        underlined = bool(section) and re.fullmatch(r"[-=]{3,}", following.strip()) is not None
        if section in _PARAMETERS and (underlined or line.rstrip().endswith(":")):
            style = "numpy" if underlined else "google"
        elif _FIELD.match(line):
            style = "sphinx"
        elif underlined or (style in ("google", "sphinx") and line[:1].strip()):
            style = ""
        if not style:
            kept.append(line)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(kept)).strip()


def _continues(previous: str, line: str) -> bool:
    """Whether a line belongs to the paragraph or the item of the previous one."""
    if not line.strip() or not previous.strip() or _ITEM.match(line.strip()):
        return False
    if previous.strip().rstrip(":") in _SECTIONS or previous.endswith("::"):
        return False
    indents = [len(text) - len(text.lstrip()) for text in (previous, line)]
    return indents[0] == indents[1] == 0 or (
        indents[1] > indents[0] and (indents[0] > 0 or bool(_ITEM.match(previous)))
    )


def _role(found: re.Match[str]) -> str:
    """The text of a role: the last name of a dotted path if it begins with a tilde."""
    return found[1].rsplit(".", maxsplit=1)[-1] if "`~" in found[0] else found[1]
