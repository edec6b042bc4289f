"""``advbench compare``: two defenses of a run, or two runs, on the same samples, with significance."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from advbench.cli.flags import add_store


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    parser.add_argument(
        "runs", nargs="*", default=[], metavar="RUN", help="one run with --defenses, or two runs (default: latest)"
    )
    parser.add_argument("--defenses", nargs=2, metavar="SPEC", help="two defenses of the run")
    parser.add_argument("--format", choices=("table", "markdown", "json"), default="table", help="how to print")
    add_store(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    import json

    from advbench.analysis import compare_defenses, compare_runs, settings_that_differ
    from advbench.errors import UsageError
    from advbench.report import comparison_markdown, print_comparison
    from advbench.session.opening import messages, open_store, set_up_logging, tables
    from advbench.session.options import LoadOptions
    from advbench.session.stored_runs import find_run

    set_up_logging(messages(), 0)
    runs = options.runs or ["latest"]
    if len(runs) > 2 or (len(runs) == 2) == bool(options.defenses):
        raise UsageError("compare either two runs or two defenses of one run: RUN_A RUN_B, or RUN --defenses A B")
    store = open_store(LoadOptions.of(vars(options)))
    manifests = [find_run(store, name) for name in runs]
    records = [_records(store, manifest) for manifest in manifests]
    differing: list[tuple[str, str, str]] = []
    if options.defenses:
        names = options.defenses[0], options.defenses[1]
        specs = [_defense(manifests[0], name) for name in names]
        rows = compare_defenses(manifests[0], records[0], *specs)
    else:
        names = manifests[0]["run"], manifests[1]["run"]
        rows = compare_runs(manifests[0], records[0], manifests[1], records[1])
        differing = settings_that_differ(*manifests)
    if not rows:
        raise UsageError(f"{names[0]} and {names[1]} have no finished cell in common, on the same samples")
    if options.format == "json":
        print(json.dumps({"first": names[0], "second": names[1], "rows": rows, "differing": differing}, indent=2))
    elif options.format == "markdown":
        print(comparison_markdown(names, rows, differing), end="")
    else:
        print_comparison(tables(), names, rows, differing)
    return 0


def _records(store: Any, manifest: Mapping[str, Any]) -> dict[str, Any]:
    keys = [cell["key"] for cell in manifest["cells"] if cell["key"]]
    return {key: record for key in keys if (record := store.read_record("cells", key)) is not None}


def _defense(manifest: Mapping[str, Any], name: str) -> str:
    """The full spec of a defense of a run, from its full spec, its short spec, or an unambiguous part of it."""
    from advbench.api.component import closest
    from advbench.errors import UsageError
    from advbench.report import with_sweep_names

    cells = manifest["cells"]
    known: dict[str, str] = {cell["defense"]: cell["short"]["defense"] for cell in cells}
    matches: Sequence[str] = [full for full, short in known.items() if name in (full, short)]
    matches = matches or [full for full in known if _is_part(name, full)]
    if len(matches) != 1:
        what = "is one of several" if matches else "is not"
        shown = list(dict.fromkeys(cell["short"]["defense"] for cell in with_sweep_names(cells)))
        hint = (closest(name, shown) if not matches else "") or f"there are: {', '.join(shown)}"
        raise UsageError(f"--defenses {name}: {what} in run {manifest['run']}; {hint}")
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
