"""What ``advbench reproduce paper`` does, step by step."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from advbench.api import UsageError, WeightsError
from advbench.results import StudySession, SuiteRun
from advbench_studies.paper2019.arguments import check_datasets
from advbench_studies.paper2019.evidence import SuiteResults
from advbench_studies.paper2019.further_weights import axes_in_folder, check_folder, named
from advbench_studies.paper2019.report_files import PaperJson, PaperMarkdown
from advbench_studies.paper2019.report_terminal import print_reproduction
from advbench_studies.paper2019.reproduction import build_reproduction
from advbench_studies.paper2019.setting import ADAPTIVE, FULL, PROTOCOLS

__all__ = ["run"]

_ADAPTIVE = "paper-adaptive"
_SUITES = (
    *("paper", "paper-fixed", "paper-foolbox2", "paper-ablations", "paper-noise", "paper-vqvae"),
    *("paper-retrained-mnist", "paper-retrained-cifar10", FULL, _ADAPTIVE),
)
_OPTIONAL = ("paper-noise",)
"""Suites that are left out if their weights do not come with advbench. Others name the files of such weights."""


def run(study: StudySession) -> int:
    """Plans every suite first, then runs what is missing, then reports.

    Args:
        study: The flags, and the means to run suites.

    Returns:
        The exit code: 1 where a cell failed.

    Raises:
        UsageError: A flag cannot be used; raised before any work.
        KeyboardInterrupt: The user interrupted; the message says what is kept.
    """
    check_datasets(study.options)
    outputs = study.plan_outputs([PaperMarkdown(), PaperJson()], "paper")
    check_folder(study.options.weights)
    plan = _plan_suites(study)
    runs, left_out = plan.runs, plan.left_out
    for name, reason in left_out.items():
        study.say(f"{name} is left out: {reason}")
    study.say(f"to run, each with its own forecast: {', '.join(map(_size, runs))}")
    if study.options.dry_run:
        return study.dry_run(runs)
    suites = [
        SuiteResults.of(suite_run.label, results, suite_run.records(), suite_run.images)
        for suite_run, results in study.run(runs)
    ]
    reproduction = build_reproduction(
        suites, _command(study), left_out, study.options.datasets, plan.missing_weights(study.options.weights)
    )
    study.write(outputs, reproduction)
    study.print_report(lambda console: print_reproduction(console, reproduction))
    if not outputs:
        study.say("--output FILE.md writes the measured numbers behind each verdict")
    return study.exit_code(suite.results for suite in suites)


def _size(suite_run: SuiteRun) -> str:
    """The size of a run; the images of the whole test set take ten times as long as those of the others."""
    return f"{suite_run.label} ({suite_run.num_cells} cells, {suite_run.num_images:,} images)"


@dataclasses.dataclass(frozen=True)
class _Group:
    """Datasets that are run with the same settings.

    Attributes:
        datasets: Their names.
        limit: How many samples of each; None for the suite's number.
        cw_steps: How many steps CW takes; None for the suite's number.
    """

    datasets: tuple[str, ...]
    limit: int | None
    cw_steps: int | None


@dataclasses.dataclass(frozen=True)
class _Plan:
    """What is run.

    Attributes:
        runs: The runs.
        left_out: The reason for each suite that is left out.
        missing: Names of weights files that were not found.
    """

    runs: list[SuiteRun] = dataclasses.field(default_factory=list)
    left_out: dict[str, str] = dataclasses.field(default_factory=dict)
    missing: list[str] = dataclasses.field(default_factory=list)

    def missing_weights(self, folder: Path | None) -> list[dict[str, Any]]:
        """The missing weights, with the claims that need them and the commands that make them."""
        where = str(folder or "weights")
        return [
            {"file": one.file, "folder": where, "claims": list(one.claims), "command": one.command(where)}
            for one in named(self.missing)
        ]


def _plan_suites(study: StudySession) -> _Plan:
    """Plans every suite that can be run."""
    options = study.options
    plan = _Plan()
    left_out = plan.left_out
    for name in _SUITES:
        suite = study.suite(name)
        known = list(dict.fromkeys(dataset for part in suite.products for dataset in part.datasets))
        wanted = [dataset for dataset in known if not options.datasets or dataset in options.datasets]
        if not wanted:
            left_out[name] = f"its dataset is {' and '.join(known)}, which --datasets leaves out"
            continue
        axes, missing = axes_in_folder(suite, options.weights)
        plan.missing.extend(missing)
        if axes is None:
            left_out[name] = "it needs weights that do not come with advbench; --weights gives their folder"
            continue
        groups = _adaptive_groups(wanted, options) if name == _ADAPTIVE else _groups(wanted, options)
        for group in groups:
            split = len(groups) > 1 or name == _ADAPTIVE
            label = f"{name} ({', '.join(group.datasets)})" if split else name
            if suite.limit is None and group.limit is not None:
                left_out[label] = "it takes all test images, but --limit asks for fewer"
                continue
            try:
                plan.runs.append(_plan_suite(study, name, label, group, axes))
            except WeightsError as error:
                if name not in _OPTIONAL:
                    raise
                left_out[label] = str(error)
    if not plan.runs:
        raise UsageError("no suite is left to run; give other --datasets")
    return plan


def _plan_suite(
    study: StudySession, name: str, label: str, group: _Group, axes: Mapping[str, Sequence[str]]
) -> SuiteRun:
    """The run of a suite on some of its datasets, with the steps of CW that the flags ask for, and with these axes."""
    attacks = None
    if group.cw_steps is not None:
        (dataset,) = group.datasets
        (part,) = (part for part in study.suite(name).products if dataset in part.datasets)
        attacks = [f"cw:steps={group.cw_steps}" if attack == "cw" else attack for attack in part.attacks]
    return study.plan_suite(name, label=label, datasets=group.datasets, attacks=attacks, limit=group.limit, **axes)


def _groups(datasets: Sequence[str], options: argparse.Namespace) -> list[_Group]:
    """The datasets in groups with the same settings; each by itself where CW is replaced, since attacks may differ."""
    groups: dict[tuple[object, ...], _Group] = {}
    for dataset in datasets:
        limit, cw_steps = _for(dataset, options.limit), _for(dataset, options.cw_steps)
        settings = (limit, cw_steps, dataset if cw_steps is not None else None)
        before = groups[settings].datasets if settings in groups else ()
        groups[settings] = _Group((*before, dataset), limit, cw_steps)
    return list(groups.values())


def _adaptive_groups(datasets: Sequence[str], options: argparse.Namespace) -> list[_Group]:
    """The datasets in groups of their own, with --adaptive-limit or the protocol's number; CW has the suite's steps."""
    images = next(protocol.images for protocol in PROTOCOLS if protocol.threat == ADAPTIVE)
    groups = []
    for dataset in datasets:
        wanted = _for(dataset, options.adaptive_limit) or images[dataset]
        groups.append(_Group((dataset,), min(wanted, _for(dataset, options.limit) or wanted), None))
    return groups


def _for(dataset: str, given: Sequence[tuple[str | None, int]]) -> int | None:
    """The number that was given for a dataset, or else for all; the last one counts."""
    numbers = dict(given)
    return numbers.get(dataset, numbers.get(None))


def _command(study: StudySession) -> str:
    """The command that makes the same report anywhere."""
    options, words = study.options, []
    if options.datasets:
        words += ["--datasets", *options.datasets]
    numbers = {
        "--limit": options.limit,
        "--cw-steps": options.cw_steps,
        "--adaptive-limit": options.adaptive_limit,
    }
    for flag, given in numbers.items():
        if given:
            words += [flag, *(f"{dataset}={number}" if dataset else str(number) for dataset, number in given)]
    if options.weights is not None:
        words += ["--weights", str(options.weights)]
    return study.command(*words)
