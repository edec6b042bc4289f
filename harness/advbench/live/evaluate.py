"""The matrix from Python."""

from __future__ import annotations

import argparse
import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advbench.analysis import combine_seeds
from advbench.cli import matrix_command
from advbench.cli.parser import CommandParser
from advbench.errors import UsageError
from advbench.live.components import LiveObjects
from advbench.live.results import Results
from advbench.process.stdout import stdout_to_stderr
from advbench.session.run import MatrixRun, suites_by_seed
from advbench.session.session import Session
from advbench.session.suites import recipe, suite_of

__all__ = ["matrix"]

_AXES = ("datasets", "models", "attacks", "defenses")


def matrix(
    datasets: Any = None,
    models: Any = None,
    attacks: Any = None,
    defenses: Any = None,
    threats: str | Sequence[str] | None = None,
    *,
    suite: str | Path | None = None,
    limit: int | None = None,
    seed: int | None = None,
    seeds: Sequence[int] | None = None,
    quiet: bool = False,
    **flags: Any,
) -> Results:
    """Evaluates every combination of attacks and defenses: what ``advbench matrix`` does.

    Each of the first four takes a spec such as ``"jpeg:quality=50"``, a component (``JpegCompression(quality=50)``) or
    its class, or several in a list; or a dictionary of names to live objects. Without any, they are those of the suite
    ``quickstart``, as on the command line.

    Results are kept and found again as the command keeps them, under the digests of weights and code. Where no digest
    can be made of a live object, such as one that a notebook's cell defines, the results are kept for this session
    alone, and a line on stderr says so.

    Args:
        datasets: Also a pair of arrays: images, uint8 or floating-point in [0, 1], shape (n, channels, height, width),
            and labels, shape (n,); a ``TensorDataset``, a ``DataLoader``, or a ``torch.utils.data.Dataset`` or list of
            (image, label) pairs. They are read once, in the order of the dataset, also where a loader shuffles.
        models: Also an ``nn.Module``, or a function of images in [0, 1] to logits. A network is copied, not changed.
        attacks: Specs or components.
        defenses: Also a function of images to images.
        threats: Names such as ``"adaptive"``.
        suite: Name of a suite, or a TOML file.
        limit: A random subset of so many samples of each dataset.
        seed: Seed of the subset and of all randomness.
        seeds: Repeat with each seed; the results show means and their spread.
        quiet: Whether to leave out progress on stderr.
        **flags: Any other flag of ``advbench matrix``, such as ``eot=20``, ``device="cpu"``, ``jobs=2``,
            ``store="results"`` or ``plugin=["my_defense.py"]``.

    Returns:
        The results: print them for the leaderboard.

    Raises:
        UsageError: Anything that was asked for cannot be used; raised before any work.
    """
    words = _words({"threats": threats, "suite": suite, "limit": limit, "seed": seed, "seeds": seeds, **flags})
    options = _parsed([*words, *(["-q"] if quiet else [])])
    session = Session(options)
    live = LiveObjects(session.registry)
    for axis, given in zip(_AXES, (datasets, models, attacks, defenses), strict=True):
        setattr(options, axis, live.specs(axis, given))
    if live.names and not session.executor.in_process:
        raise UsageError(
            f"jobs={options.jobs}: {live.names[0]!r} lives in this process alone; give jobs=1 and no other executor"
        )
    session.live = live.names
    if live.unkept:
        _keep_for_the_session(session, live.unkept)
    python = "advbench.matrix(…) from Python" if live.names else ""
    suites = suites_by_seed(suite_of(options, session.registry), options)
    runs = [MatrixRun(session, one, python or command) for one, command in suites]
    session.store.check_writable()
    found = []
    for run in runs:
        run.announce()
        with stdout_to_stderr():  # what components print is no result
            found.append(run.results())
    return Results(combine_seeds(found, python or recipe(options)), runs[0].plan.cells, session.store)


def _keep_for_the_session(session: Session, reasons: Sequence[str]) -> None:
    """Lets results lie where they are gone with the process."""
    folder = Path(tempfile.mkdtemp(prefix="advbench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    session.keep_in(folder)
    for reason in reasons:
        session.say(f"{reason}; the results are kept for this session alone")


def _words(flags: Mapping[str, Any]) -> list[str]:
    """Keyword arguments as the flags of the command."""
    words = []
    for name, value in flags.items():
        flag = f"--{name.replace('_', '-')}"
        if isinstance(value, bool):
            words += [flag] if value else []
        elif isinstance(value, (list, tuple)) and name in ("plugin", "no_plugin"):
            words += [word for item in value for word in (flag, str(item))]
        elif isinstance(value, (list, tuple, range)):
            words += [flag, *map(str, value)]
        elif value is not None:
            words += [flag, str(value)]
    return words


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    """The flags as the command reads them, so that bounds and messages are the same.

    Raises:
        UsageError: There is no such flag, or it is not allowed this value.
    """
    parser = CommandParser(prog="advbench.matrix()", add_help=False, allow_abbrev=False)
    matrix_command.add_arguments(parser)
    for word in words:
        if word in ("--export", "--dry-run"):
            raise UsageError(f"advbench.matrix() has no {word.strip('-').replace('-', '_')!r}; that is the command's")
    return parser.parse_args(list(words))
