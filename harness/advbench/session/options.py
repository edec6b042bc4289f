"""What a user may ask of a run, as typed values. Imports neither torch nor rich."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

import platformdirs

from advbench.session.values import (
    at_least,
    device,
    existing_folder,
    folder,
    gibibytes,
    one_of,
    radius,
    run_name,
    seconds,
)

__all__ = [
    "CHECKS",
    "FORMATS",
    "PRECISIONS",
    "RERUNS",
    "LoadOptions",
    "RunOptions",
    "cache_folder",
    "default_store",
]

PRECISIONS = ("float32", "bf16")
"""The precisions of :mod:`advbench.specs`, which imports torch."""

ROWS = ("defense", "model")
"""The rows of leaderboards of :mod:`advbench.specs`."""

RERUNS = ("none", "failed", "all")
"""Which stored cells may be run again."""

FORMATS = ("table", "plain", "markdown")
"""The forms in which a leaderboard is printed."""

CHECKS: Mapping[str, Callable[[str], Any]] = MappingProxyType(
    {
        "name": run_name,
        "limit": at_least(1),
        "seed": at_least(0),
        "seeds": at_least(0),
        "eot": at_least(1),
        "score_draws": at_least(1),
        "radii": radius,
        "max_queries": at_least(1),
        "fit_samples": at_least(1),
        "precision": one_of(PRECISIONS),
        "rows": one_of(ROWS),
        "device": device,
        "batch_size": at_least(1),
        "jobs": at_least(1),
        "cell_timeout": seconds,
        "memory": gibibytes,
        "rerun": one_of(RERUNS),
        "format": one_of(FORMATS),
        "store": folder,
        "data_dir": existing_folder,
        "plugin": Path,
    }
)
"""For each option whose value is restricted, the parser that turns its text into the value or refuses it.

The command line and the Python API both use these, so that bounds and messages are the same. Options that take
several values have a parser for one of them.
"""

_Options = TypeVar("_Options", bound="LoadOptions")


def cache_folder() -> Path:
    """The user's cache folder, which holds the store and downloaded datasets by default."""
    return Path(platformdirs.user_cache_dir("advbench"))


def default_store() -> Path:
    """The folder in which results are kept by default."""
    return cache_folder() / "store"


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """Where components, data and results are, for any command that loads components.

    Attributes:
        device: Where to compute: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.
        store: The folder in which results are kept.
        data_dir: The user's own folder of datasets, which is searched first.
        plugin: Python files to load as plugins.
        no_plugin: Plugins or distributions not to load.
        strict_plugins: Whether a problem in a plugin stops the command.
    """

    device: str = "auto"
    store: Path = dataclasses.field(default_factory=default_store)
    data_dir: Path | None = None
    plugin: tuple[Path, ...] = ()
    no_plugin: tuple[str, ...] = ()
    strict_plugins: bool = False

    @classmethod
    def of(cls: type[_Options], flags: Mapping[str, Any], **replaced: Any) -> _Options:
        """The options among parsed flags.

        Args:
            flags: Values by name, such as ``vars()`` of an ``argparse.Namespace``. Other names are ignored, and missing
                ones have their defaults.
            **replaced: Values that replace those in ``flags``.
        """
        names = {field.name for field in dataclasses.fields(cls)}
        values: dict[str, Any] = {name: value for name, value in {**flags, **replaced}.items() if name in names}
        values |= {name: tuple(value) for name, value in values.items() if isinstance(value, list)}
        return cls(**values)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RunOptions(LoadOptions):
    """What ``advbench matrix`` and :func:`advbench.matrix` run, and how. None means that the suite decides.

    Attributes:
        suite: The name of a shipped suite or the path of a TOML file; None for ``quickstart``.
        name: What tables and pages call the run; None for the name of the suite.
        datasets: Specs of datasets, instead of the suite's.
        models: Specs of models, instead of the suite's.
        attacks: Specs of attacks, instead of the suite's.
        defenses: Specs of defenses, instead of the suite's.
        threats: Names of threats, instead of the suite's.
        limit: Size of the random subset of each dataset.
        seed: Seed of the subset and of all randomness.
        seeds: Seeds with each of which the run is repeated.
        eot: Draws of a stochastic defense or model for each gradient of an attack that knows it.
        score_draws: Draws of a stochastic defense or model for the score.
        certify: Whether models and defenses that give certificates certify their answers.
        radii: Radii at which certified accuracies are shown.
        max_queries: The largest number of an attack's queries about a sample that count; forwards and backwards each.
        precision: The network's arithmetic while it is attacked, one of ``PRECISIONS``.
        surrogate: Specs of the models on which images are crafted under the threat ``transfer``.
        fit_samples: Number of images to which components are fitted.
        fit_data: Spec of the dataset to which components are fitted; None for samples that the run does not use.
        rows: The rows of leaderboards, one of ``ROWS``.
        reference: Spec of the model to which mean corruption errors are relative.
        check_convergence: Whether every attack also runs with twice the steps.
        batch_size: Images in a batch.
        jobs: Tasks that run at the same time.
        executor: Name of the executor; None to choose it by the other options.
        scheduler: Address of a Dask scheduler.
        cell_timeout: Seconds after which a step of a cell is stopped; None for no limit.
        memory: Bytes that each process may use on a CPU; None for nine tenths of the free memory, shared by all.
        rerun: Which stored cells to run again, one of ``RERUNS``.
        fail_fast: Whether to stop at the first cell that fails.
        dry_run: Whether to print what would run instead of running it.
        export: Files to write the results to.
        format: How to print the leaderboard, one of ``FORMATS``.
        verbosity: -1 for errors and the leaderboard only, 0, or 1 for more messages.
    """

    suite: str | None = None
    name: str | None = None
    datasets: tuple[str, ...] | None = None
    models: tuple[str, ...] | None = None
    attacks: tuple[str, ...] | None = None
    defenses: tuple[str, ...] | None = None
    threats: tuple[str, ...] | None = None
    limit: int | None = None
    seed: int | None = None
    seeds: tuple[int, ...] | None = None
    eot: int | None = None
    score_draws: int | None = None
    certify: bool | None = None
    radii: tuple[float, ...] | None = None
    max_queries: int | None = None
    precision: str | None = None
    surrogate: tuple[str, ...] | None = None
    fit_samples: int | None = None
    fit_data: str | None = None
    rows: str | None = None
    reference: str | None = None
    check_convergence: bool = False
    batch_size: int = 250
    jobs: int = 1
    executor: str | None = None
    scheduler: str | None = None
    cell_timeout: float | None = None
    memory: int | None = None
    rerun: Literal["none", "failed", "all"] = "failed"
    fail_fast: bool = False
    dry_run: bool = False
    export: tuple[str, ...] = ()
    format: str = "table"
    verbosity: int = 0
