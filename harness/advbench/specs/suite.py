"""Suites: the axes of a matrix with their limits, as TOML."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from advbench.api.component import closest
from advbench.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["DEFAULT_SUITE", "Suite", "load_suite", "shipped_suites"]

DEFAULT_SUITE = "quickstart"
"""The suite that ``advbench matrix`` runs without arguments."""


@dataclasses.dataclass(frozen=True)
class Suite:
    """What to evaluate.

    Attributes:
        name: Name of the run and of its block in Markdown files.
        description: One line for people.
        datasets: Specs of datasets.
        models: Specs of models.
        attacks: Specs of attacks.
        defenses: Specs of defenses, chains and sweeps included.
        threats: Names of threats.
        limit: How many random samples of each dataset; None for all.
        seed: Seed of the subset and of all randomness.
    """

    name: str
    description: str = ""
    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
    threats: tuple[str, ...] = ("oblivious",)
    limit: int | None = None
    seed: int = 0


def shipped_suites() -> list[str]:
    """Names of the suites that come with advbench."""
    folder = resources.files("advbench.specs") / "suites"
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def load_suite(name_or_file: str) -> Suite:
    """Reads a shipped suite by name, or a file by its path.

    Raises:
        UsageError: There is no such suite, or the file is unreadable, no TOML or has an unknown key.
    """
    path = Path(name_or_file)
    if name_or_file in shipped_suites():
        content = (resources.files("advbench.specs") / "suites" / f"{name_or_file}.toml").read_text("utf-8")
    elif path.suffix == ".toml" or path.exists():
        try:
            content = path.read_text("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
            raise UsageError(f"suite file {name_or_file} cannot be read: {reason}") from error
    else:
        hint = closest(name_or_file, shipped_suites()) or f"there are: {', '.join(shipped_suites())}"
        raise UsageError(f"unknown suite {name_or_file!r}; {hint}, or give the path of a .toml file")
    try:
        table = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"suite file {name_or_file} is not valid TOML: {error}") from error
    return _from_table(name_or_file, path.stem, table)


def _from_table(file: str, stem: str, table: Mapping[str, Any]) -> Suite:
    fields = {field.name: field for field in dataclasses.fields(Suite)}
    values: dict[str, Any] = {"name": stem}
    for key, value in table.items():
        if key not in fields:
            hint = closest(key, fields) or f"there are: {', '.join(fields)}"
            raise UsageError(f"suite file {file}: unknown key {key!r}; {hint}")
        if key in ("name", "description"):
            _require(file, key, isinstance(value, str), "text")
        elif key in ("limit", "seed"):
            whole = isinstance(value, int) and not isinstance(value, bool)
            _require(file, key, whole and value >= (1 if key == "limit" else 0), "a whole number, a limit at least 1")
        else:
            specs = isinstance(value, list) and all(isinstance(item, str) for item in value)
            _require(file, key, specs, "a list of specs, each a text")
            value = tuple(value)  # noqa: PLW2901  TOML has lists, a suite is immutable
        values[key] = value
    return Suite(**values)


def _require(file: str, key: str, holds: bool, wanted: str) -> None:
    if not holds:
        raise UsageError(f"suite file {file}: {key} must be {wanted}")
