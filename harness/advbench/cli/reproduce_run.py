"""What ``advbench reproduce`` does, step by step."""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import shlex
from collections.abc import Mapping, Sequence
from typing import TextIO

from advbench.analysis.paper import FULL, Study, build_reproduction
from advbench.errors import UsageError, WeightsError
from advbench.report import plan_outputs, write_export
from advbench.report.paper import PaperJson, PaperMarkdown, print_reproduction
from advbench.session.opening import tables
from advbench.session.options import LoadOptions, RunOptions
from advbench.session.run import MatrixRun
from advbench.session.session import Session
from advbench.session.suites import plugin_words, recipe
from advbench.specs import Suite, load_suite, narrow

__all__ = ["run_reproduction"]

_SUITES = ("paper", "paper-fixed", "paper-ablations", "paper-noise", FULL)
_OPTIONAL = ("paper-noise",)
"""Suites that need weights which do not come with advbench; without these they are left out."""


def run_reproduction(options: argparse.Namespace, stdout: TextIO) -> int:
    """One call of the command: checks every suite first, then runs what is missing, then reports.

    Args:
        options: What was typed.
        stdout: Where the report goes.

    Raises:
        UsageError: Anything that was asked for cannot be used; raised before any work.
        KeyboardInterrupt: The user interrupted; the message says what is kept.
    """
    session = Session(RunOptions.of(vars(options), datasets=None, limit=None))  # the suites' own axes and limits
    outputs = plan_outputs([PaperMarkdown(), PaperJson()], options.output, "paper", "--output")
    runs, left_out = _plan(session, options)
    console = tables(stdout)
    for name, reason in left_out.items():
        session.say(f"{name} is left out: {reason}")
    session.say(f"to run, each with its own forecast: {', '.join(_length(label, run) for label, run in runs)}")
    if options.dry_run:
        for _, run in runs:
            run.announce()
            run.print_dry_run(console)
        return 0
    session.store.check_writable()
    studies = []
    for label, run in runs:
        try:
            run.announce()
            results = run.results()
        except KeyboardInterrupt as interruption:
            raise KeyboardInterrupt(f"{label}: {interruption}" if str(interruption) else "") from None
        studies.append(Study.of(label, results, run.records()))
        if options.fail_fast and any(cell["status"] == "error" for cell in results["cells"]):
            break
    reproduction = build_reproduction(studies, _command(options), left_out)
    for output in outputs:
        write_export(output, reproduction)
        session.say(f"wrote {output.path}")
    with contextlib.suppress(BrokenPipeError):  # whoever read the report has gone; all is done and written
        print_reproduction(console, reproduction)
    if not outputs:
        session.say("--output FILE.md writes the measured numbers behind each verdict")
    return int(any(cell["status"] == "error" for study in studies for cell in study.results["cells"]))


def _length(label: str, run: MatrixRun) -> str:
    """How long a run is; the images of the whole test set take ten times as long as those of the others."""
    most = max(len(cell.ids) for cell in run.plan.cells)
    return f"{label} ({len(run.plan.cells)} cells, {most:,} images)"


@dataclasses.dataclass(frozen=True)
class _Share:
    """Datasets that are run alike.

    Attributes:
        datasets: Which.
        limit: How many samples of each; None for as many as the suite says.
        cw_steps: How many steps CW takes; None for as many as the suite says.
    """

    datasets: tuple[str, ...]
    limit: int | None
    cw_steps: int | None


def _plan(session: Session, options: argparse.Namespace) -> tuple[list[tuple[str, MatrixRun]], Mapping[str, str]]:
    """The runs by name, and why suites are left out."""
    runs: list[tuple[str, MatrixRun]] = []
    left_out: dict[str, str] = {}
    for name in _SUITES:
        suite = load_suite(name)
        known = list(dict.fromkeys(dataset for part in suite.products for dataset in part.datasets))
        wanted = [dataset for dataset in known if not options.datasets or dataset in options.datasets]
        if not wanted:
            left_out[name] = f"it is of {', '.join(known)}"
            continue
        shares = _shares(wanted, options)
        for share in shares:
            label = name if len(shares) == 1 else f"{name} ({', '.join(share.datasets)})"
            if suite.limit is None and share.limit is not None:
                left_out[label] = "it is of all test images, and --limit asks for fewer"
                continue
            try:
                runs.append((label, MatrixRun(session, *_narrowed(session, suite, share, options))))
            except WeightsError as error:
                if name not in _OPTIONAL:
                    raise
                left_out[label] = str(error)
    if not runs:
        raise UsageError("no suite is left to run; give other --datasets")
    return runs, left_out


def _shares(datasets: Sequence[str], options: argparse.Namespace) -> list[_Share]:
    """The datasets, those together that are run alike; apart where an attack is replaced, since attacks may differ."""
    shares: dict[tuple[object, ...], _Share] = {}
    for dataset in datasets:
        limit, cw_steps = _for(dataset, options.limit), _for(dataset, options.cw_steps)
        alike = (limit, cw_steps, dataset if cw_steps is not None else None)
        before = shares[alike].datasets if alike in shares else ()
        shares[alike] = _Share((*before, dataset), limit, cw_steps)
    return list(shares.values())


def _for(dataset: str, given: Sequence[tuple[str | None, int]]) -> int | None:
    """The number that was given for a dataset, or else for all; the last one counts."""
    numbers = dict(given)
    return numbers.get(dataset, numbers.get(None))


def _narrowed(session: Session, suite: Suite, share: _Share, options: argparse.Namespace) -> tuple[Suite, str]:
    """The suite that the flags leave, with the ``advbench matrix`` command that runs it."""
    given = {"suite": suite.name, "limit": share.limit, "seed": options.seed}
    asked = RunOptions.of({**given, "plugin": options.plugin, "no_plugin": options.no_plugin})
    if suite.parts and set(share.datasets) != {dataset for part in suite.parts for dataset in part.datasets}:
        suite = narrow(session.registry, suite, "datasets", share.datasets)
        asked = dataclasses.replace(asked, datasets=share.datasets)
    if share.cw_steps is not None:
        (part,) = suite.products
        attacks = tuple(f"cw:steps={share.cw_steps}" if attack == "cw" else attack for attack in part.attacks)
        asked = dataclasses.replace(asked, attacks=attacks)
        replaced = dataclasses.replace(part, attacks=attacks)
        suite = dataclasses.replace(suite, attacks=replaced.attacks, parts=(replaced,) if suite.parts else ())
    given = {key: value for key in ("limit", "seed") if (value := getattr(asked, key)) is not None}
    return dataclasses.replace(suite, **given), recipe(asked)


def _command(options: argparse.Namespace) -> str:
    """The command that makes the same report anywhere: without flags that only say where and how to run."""
    words = ["advbench", "reproduce", options.paper]
    if options.datasets:
        words += ["--datasets", *options.datasets]
    for flag, given in (("--limit", options.limit), ("--cw-steps", options.cw_steps)):
        if given:
            words += [flag, *(f"{dataset}={number}" if dataset else str(number) for dataset, number in given)]
    if options.seed is not None:
        words += ["--seed", str(options.seed)]
    return shlex.join([*words, *plugin_words(LoadOptions.of(vars(options)))])
