"""Suites: the axes and settings of a matrix, in TOML files."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advbench.api.component import closest
from advbench.discovery.plugins import PluginLog
from advbench.discovery.studies import Studies, core_suites
from advbench.errors import UsageError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from importlib.abc import Traversable

__all__ = [
    "AXES",
    "CUSTOM",
    "DEFAULT_SUITE",
    "EFFORTS",
    "FIT_SAMPLES",
    "FLOAT32",
    "PRECISIONS",
    "Part",
    "Suite",
    "load_suite",
    "shipped_suites",
]

DEFAULT_SUITE = "quickstart"
"""The suite that ``advbench matrix`` runs without arguments."""

CUSTOM = "custom"
"""Name of a run that options define without a suite and to which the user gives no name."""


AXES = ("datasets", "models", "attacks", "defenses", "threats")
"""The axes of a matrix, and the keys of a suite and of its parts that hold specs."""


FLOAT32 = "float32"
PRECISIONS = (FLOAT32, "bf16")
"""The precisions in which the network can run while it is attacked."""


ROWS = ("defense", "model")
"""What the rows of leaderboards can be."""


FIT_SAMPLES = 1000
"""The number of images to which a component is fitted, unless the user gives another."""


_LARGEST = 4 << 20
"""Size limit of a suite file, in bytes."""

_HUGE = 1e9
"""Radii are smaller than this."""

_CHOICES = {"precision": PRECISIONS, "rows": ROWS}
_INTEGERS = {"limit": 1, "seed": 0, "eot": 1, "score_draws": 1, "max_queries": 1, "fit_samples": 1}
"""The keys that hold an integer, with its smallest value."""

EFFORTS = ("limit", "eot", "score_draws")
"""The keys that a part may set for itself."""


@dataclasses.dataclass(frozen=True)
class Part:
    """Axes whose combinations are all evaluated.

    Attributes:
        datasets: Specs of datasets.
        models: Specs of models.
        attacks: Specs of attacks.
        defenses: Specs of defenses, chains and sweeps included.
        threats: Names of threats.
        limit: Number of random samples of each dataset; None for that of the suite.
        eot: Number of draws for each gradient; None for that of the suite.
        score_draws: Number of draws for the score; None for that of the suite.
    """

    datasets: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    attacks: tuple[str, ...] = ()
    defenses: tuple[str, ...] = ()
    threats: tuple[str, ...] = ("oblivious",)
    limit: int | None = None
    eot: int | None = None
    score_draws: int | None = None


@dataclasses.dataclass(frozen=True)
class Suite:
    """What to evaluate: all combinations of its axes, or, if it has parts, all combinations of the axes of each part.

    Attributes:
        name: Name of the run and of its block in Markdown files.
        description: One line that describes the suite.
        datasets: Specs of datasets.
        models: Specs of models.
        attacks: Specs of attacks.
        defenses: Specs of defenses, chains and sweeps included.
        threats: Names of threats.
        limit: Number of random samples of each dataset; None for all.
        seed: Seed of the choice of samples and of all random numbers.
        eot: Number of draws of a stochastic defense for each gradient of an adaptive attack.
        score_draws: Number of draws of a stochastic defense for the score.
        certify: Whether models and defenses that give certificates certify their answers.
        radii: The radii at which certified accuracies are shown besides the eps of attacks in the same norm.
        max_queries: The largest number of queries of a sample that count; None for any.
        surrogate: Specs of the models that the transfer threat attacks, one after another.
        precision: Precision of the network while it is attacked, one of ``PRECISIONS``; scores are always float32.
        fit_samples: Number of images to which components are fitted.
        rows: The rows of leaderboards, one of ``ROWS``: the defenses of one model, or all models with their defenses.
        reference: Spec of the model to which mean corruption errors are relative; None to leave them out.
        fit_data: Spec of the dataset to which components are fitted; None for the samples that the run does not use.
        plugins: Paths of Python files that are loaded as plugins.
        parts: The parts, each with all its axes; empty if the suite is a single product of its own axes.
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
    eot: int = 10
    score_draws: int = 1
    certify: bool = False
    radii: tuple[float, ...] = ()
    max_queries: int | None = None
    surrogate: tuple[str, ...] = ()
    precision: str = FLOAT32
    fit_samples: int = FIT_SAMPLES
    fit_data: str | None = None
    rows: str = "defense"
    reference: str | None = None
    plugins: tuple[str, ...] = ()
    parts: tuple[Part, ...] = ()

    @property
    def products(self) -> tuple[Part, ...]:
        """The parts whose products make up the suite; its own axes as a single part if it has no parts."""
        return self.parts or (Part(**{axis: getattr(self, axis) for axis in AXES}),)


def shipped_suites() -> list[str]:
    """Names of the suites that the core ships; plugins register others."""
    return sorted(core_suites())


def load_suite(name_or_file: str, studies: Studies | None = None) -> Suite:
    """Reads a suite by name, or a file by its path.

    Args:
        name_or_file: The name of a shipped suite, the name of a suite of ``studies``, or the path of a TOML file.
        studies: The suites that plugins register.

    Raises:
        UsageError: There is no such suite, or the file is unreadable, is not TOML or has an unknown key.
    """
    if "\0" in name_or_file:
        raise UsageError(f"suite {name_or_file!r}: a name cannot contain the character NUL; remove it")
    path = Path(name_or_file)
    file: Path | Traversable = path
    name, folder = path.stem, path.parent
    if name_or_file in shipped_suites():
        name, file = name_or_file, core_suites()[name_or_file]
    elif studies is not None and studies.holds("suites", name_or_file):
        name, file = name_or_file, studies.suite(name_or_file).file
        folder = file.parent if isinstance(file, Path) else folder
    elif path.suffix != ".toml" and not _exists(path):
        message = (studies or Studies(PluginLog())).unknown("suites", name_or_file, shipped_suites())
        raise UsageError(f"{message}, or give the path of a .toml file")
    try:
        content = (_read_user_file(file) if file is path else file.read_bytes()).decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise UsageError(f"suite file {name_or_file} cannot be read: {reason}") from error
    try:
        table = tomllib.loads(content)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"suite file {name_or_file} is not valid TOML: {error}") from error
    except RecursionError as error:
        raise UsageError(f"suite file {name_or_file}: its lists or tables are nested too deep") from error
    except ValueError as error:  # Python refuses numbers of more than 4,300 digits
        what = "a number has too many digits" if "int_max_str_digits" in str(error) else f"it cannot be read: {error}"
        raise UsageError(f"suite file {name_or_file}: {what}") from error
    return _from_table(f"suite file {name_or_file}", name, folder, table)


def _read_user_file(path: Path) -> bytes:
    """Reads a suite file of the user.

    Raises:
        UsageError: It is no regular file, such as a FIFO or a device, whose reading may never end; or it is too large.
        OSError: It cannot be read.
    """
    if not path.is_file() and path.exists() and not path.is_dir():
        raise UsageError(f"suite file {path} is not a regular file; give the path of a .toml file")
    with path.open("rb") as file:
        content = file.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise UsageError(f"suite file {path} is larger than {_LARGEST >> 20} MiB; give the path of a .toml file")
    return content


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # such as a name that is too long
        return False


def _plugin_path(where: str, folder: Path, text: str) -> str:
    """The path of a plugin's file, from the folder of the suite."""
    if "\0" in text or not text:
        raise UsageError(f"{where}: plugins: {text!r} is not the path of a file")
    try:
        return str(folder / Path(text).expanduser())
    except RuntimeError as error:
        raise UsageError(f"{where}: plugins: {text}: {str(error).rstrip('.')}; write the path in full") from error


def _from_table(where: str, name: str, folder: Path, table: Mapping[str, Any]) -> Suite:
    """The suite that a table holds; its plugins are looked for from a folder."""
    _check_keys(where, table, [field.name for field in dataclasses.fields(Suite)])
    values: dict[str, Any] = {"name": name}
    for key, value in table.items():
        if key in ("name", "description", "fit_data", "reference"):
            _require(where, key, isinstance(value, str), "text")
            values[key] = value
        elif key == "surrogate":
            specs = [value] if isinstance(value, str) else value
            valid = isinstance(specs, list) and len(specs) > 0 and all(isinstance(item, str) for item in specs)
            _require(where, key, valid, "a spec or a list of specs, as text")
            values[key] = tuple(specs)
        elif key == "plugins":
            files = isinstance(value, list) and all(isinstance(item, str) for item in value)
            _require(where, key, files, "a list of paths of Python files, as text")
            values[key] = tuple(_plugin_path(where, folder, item) for item in value)
        elif key == "certify":
            _require(where, key, isinstance(value, bool), "true or false")
            values[key] = value
        elif key == "radii":
            numbers = isinstance(value, list) and all(
                type(item) in (int, float) and 0 <= item < _HUGE for item in value
            )
            _require(where, key, numbers, "a list of numbers of at least 0")
            values[key] = tuple(map(float, value))
        elif key in _CHOICES:
            _require(where, key, value in _CHOICES[key], f"one of {', '.join(_CHOICES[key])}")
            values[key] = value
        elif key in _INTEGERS:
            values[key] = _integer(where, key, value)
    defaults = _axes(where, table)
    return Suite(**{**values, **defaults}, parts=_parts(where, table.get("parts"), defaults))


def _parts(where: str, tables: Any, defaults: Mapping[str, tuple[str, ...]]) -> tuple[Part, ...]:
    """The parts; an axis that a part lacks is taken from the suite."""
    if tables is None:
        return ()
    valid = isinstance(tables, list) and len(tables) > 0 and all(isinstance(table, dict) for table in tables)
    _require(where, "parts", valid, "tables, each starting with a line [[parts]]")
    parts = []
    for number, table in enumerate(tables, 1):
        part = f"{where}, part {number}"
        _check_keys(part, table, (*AXES, *EFFORTS), "; the other keys are for the whole suite")
        values: dict[str, Any] = {**defaults, **_axes(part, table)}
        values |= {key: _integer(part, key, table[key]) for key in EFFORTS if key in table}
        parts.append(Part(**values))
    return tuple(parts)


def _axes(where: str, table: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """The axes that a table gives."""
    given = {axis: table[axis] for axis in AXES if axis in table}
    for axis, value in given.items():
        specs = isinstance(value, list) and all(isinstance(item, str) for item in value)
        _require(where, axis, specs, "a list of specs, as text")
    return {axis: tuple(value) for axis, value in given.items()}


def _integer(where: str, key: str, value: Any) -> int:
    """The value of a key that holds an integer."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    _require(where, key, is_integer and value >= _INTEGERS[key], f"a whole number of at least {_INTEGERS[key]}")
    return int(value)


def _check_keys(where: str, table: Mapping[str, Any], known: Sequence[str], note: str = "") -> None:
    for key in table:
        if key not in known:
            hint = closest(key, list(known)) or f"there are: {', '.join(known)}{note}"
            raise UsageError(f"{where}: unknown key {key!r}; {hint}")


def _require(where: str, key: str, holds: bool, wanted: str) -> None:
    if not holds:
        raise UsageError(f"{where}: {key} must be {wanted}")
