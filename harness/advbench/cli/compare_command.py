"""``advbench compare``: two defenses, models or attacks of a run, or two runs, on the same samples."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.cli.flags import add_store

_AXES = ("defense", "model", "attack")
"""The components that can be compared: those of a run have the same samples."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument(
        "runs",
        nargs="*",
        default=[],
        metavar="RUN",
        help="one run (default: latest) with --defenses, --models or --attacks, or two runs",
    )
    for axis in _AXES:
        parser.add_argument(f"--{axis}s", nargs=2, metavar="SPEC", help=f"two {axis}s of the run")
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table", help="how to print")
    add_store(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    import json

    from advbench.analysis import compare_components, compare_runs, settings_that_differ
    from advbench.errors import UsageError
    from advbench.report import comparison_markdown, print_comparison
    from advbench.session.opening import messages, open_store, print_line, set_up_logging, tables
    from advbench.session.options import LoadOptions
    from advbench.session.shown_runs import runs_together
    from advbench.session.stored_runs import read_records
    from advbench.specs import CUSTOM

    set_up_logging(messages(), 0)
    runs = options.runs or ["latest"]
    axes = [axis for axis in _AXES if getattr(options, f"{axis}s")]
    if len(runs) > 2 or len(runs) - 1 + len(axes) != 1:
        raise UsageError(
            "compare two runs, or two defenses, models or attacks of one run: RUN_A RUN_B, or RUN --defenses A B, "
            "or --models A B, or --attacks A B"
        )
    store = open_store(LoadOptions.of(vars(options)))
    found = [runs_together(store, name) for name in runs]
    for name, seeds in zip(runs, found, strict=True):
        if len(seeds) > 1:
            print_line(messages(), f"{name} has {len(seeds)} seeds; compared is the first, run {seeds[0]['run']}")
    manifests = [seeds[0] for seeds in found]
    if len(runs) == 2 and manifests[0]["run"] == manifests[1]["run"]:
        raise UsageError(
            f"{' and '.join(dict.fromkeys(runs))}: the same run, {manifests[0]['run']}; give the ids of two runs, "
            "which 'advbench cache ls' lists"
        )
    records = [read_records(store, manifest) for manifest in manifests]
    differing: list[tuple[str, str, str]] = []
    if axes:
        (axis,) = axes
        first, second = getattr(options, f"{axis}s")
        names = shown = first, second
        specs = [_component(manifests[0], axis, name) for name in names]
        rows = compare_components(manifests[0], records[0], axis, *specs)
    else:
        names = manifests[0]["run"], manifests[1]["run"]
        rows = compare_runs(manifests[0], records[0], manifests[1], records[1])
        differing = settings_that_differ(*manifests)
        called = manifests[0]["name"], manifests[1]["name"]
        shown = called if called[0] != called[1] and CUSTOM not in called else names
    if not rows:
        raise UsageError(f"{names[0]} and {names[1]} have no finished cell in common, on the same samples")
    if options.format == "json":
        compared = {"first": names[0], "second": names[1], "first_name": shown[0], "second_name": shown[1]}
        print(json.dumps({**compared, "rows": rows, "differing": differing}, indent=2))
    elif options.format == "markdown":
        print(comparison_markdown(shown, rows, differing), end="")
    else:
        print_comparison(tables(), shown, rows, differing)
    return 0


def _component(manifest: Mapping[str, Any], axis: str, name: str) -> str:
    """The full spec of a run's component, from its full spec, its short spec, or an unambiguous part of it."""
    from advbench.api.component import closest
    from advbench.errors import UsageError, listed
    from advbench.report import with_sweep_names

    cells = manifest["cells"]
    known: dict[str, str] = {cell[axis]: cell["short"][axis] for cell in cells}
    matches: Sequence[str] = [full for full, short in known.items() if name in (full, short)]
    matches = matches or [full for full in known if _is_part(name, full)]
    if len(matches) != 1:
        what = "is one of several" if matches else "is not"
        shown = list(dict.fromkeys(cell["short"][axis] for cell in with_sweep_names(cells)))
        hint = (closest(name, shown) if not matches else "") or f"there are: {listed(shown)}"
        raise UsageError(f"--{axis}s {name}: {what} in run {manifest['run']}; {hint}")
    return matches[0]


def _is_part(name: str, full: str) -> bool:
    """Whether a spec has the same components as a full spec, and parameters that occur there."""
    from advbench.errors import SpecError
    from advbench.specs import parse_chain

    try:
        given, terms = parse_chain(name), parse_chain(full)
    except SpecError:
        return False
    return [term.name for term in given] == [term.name for term in terms] and all(
        set(part.items) <= set(term.items) for part, term in zip(given, terms, strict=True)
    )
