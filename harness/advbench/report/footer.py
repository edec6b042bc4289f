"""The footer of leaderboards: how to read them, and the provenance of the results; lines of printable characters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advbench.printable import one_line
from advbench.specs import CUSTOM, FLOAT32

__all__ = ["READING", "attack_settings", "failures", "provenance", "run_title"]

READING = (
    "Robust accuracy in % of all samples: correct both on the clean and on the attacked image. Worst case: the minimum "
    "over the attacks for each sample, with Wilson's 95 % interval."
)


_MOST_TITLED = 2
"""At most this many datasets or models are in the title of a run without a name."""


def provenance(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Labels and texts that describe the run: its name if it has one, aliases, command, run, versions."""
    run = results["run"]
    seeds: Mapping[str, str] = run.get("seeds") or {str(run["seed"]): run["run"]}
    threads = f"{run['threads']} thread{'' if run['threads'] == 1 else 's'}"
    how = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}, {run['device']}, {threads}"
    precision = run.get("precision", FLOAT32)  # missing in results of earlier versions
    how += "" if precision == FLOAT32 else f", attacked in {precision} and scored in {FLOAT32}"
    how += f", at most {run['max_queries']:,} queries a sample" if run.get("max_queries") else ""
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    name = [("name", run["name"])] if run["name"] != CUSTOM else []
    aliases = [
        ("alias", f"{alias} = {spec}") for specs in run.get("aliases", {}).values() for alias, spec in specs.items()
    ]
    lines = [
        *name,
        *aliases,
        ("command", run["command"]),
        ("run", f"{', '.join(seeds.values())} ({run['created']}), {how}"),
        ("versions", versions),
    ]
    return [(label, one_line(text)) for label, text in lines]


def run_title(results: Mapping[str, Any]) -> str:
    """The name of the run; for a run without a name, its datasets and models."""
    name = str(results["run"]["name"])
    if name != CUSTOM:
        return name
    parts = []
    for kind in ("dataset", "model"):
        shown = list(dict.fromkeys(cell["short"][kind] for cell in results["cells"]))
        parts.append(", ".join(shown) if len(shown) <= _MOST_TITLED else f"{len(shown)} {kind}s")
    return " · ".join(parts)


def attack_settings(results: Mapping[str, Any]) -> list[str]:
    """The full specs of the attacks, in the order of the columns."""
    return [one_line(spec) for spec in dict.fromkeys(cell["attack"] for cell in results["cells"])]


def failures(results: Mapping[str, Any]) -> list[str]:
    """One line for each distinct failure, skip or warning, with the first cell that it is about."""
    messages: dict[str, list[str]] = {}
    for cell in results["cells"]:
        if cell["status"] == "ok" and not cell["warnings"]:
            continue
        short = cell["short"]
        model = f"{short['dataset']}, {short['model']}"
        if cell["status"] == "error":
            messages.setdefault(f"ERR {cell['error']}", []).append(f"{model}, {short['attack']}, {short['defense']}")
        elif cell["status"] == "skipped" and cell["error"] != "not run":
            messages.setdefault(f"skipped: {cell['error']}", [])
        for warning in cell["warnings"]:
            messages.setdefault(f"{model}: {warning}", [])
    for entry in results.get("certificates", ()):
        if entry["status"] == "error":
            short = entry["short"]
            where = f"{short['dataset']}, {short['model']}, certificates, {short['defense']}"
            messages.setdefault(f"ERR {entry['error']}", []).append(where)
    return [one_line(_with_cells(message, cells)) for message, cells in messages.items()]


def _with_cells(message: str, cells: list[str]) -> str:
    if not cells:
        return message
    more = len(cells) - 1
    others = f" and {more} more cell{'' if more == 1 else 's'}" if more else ""
    return f"{message} ({cells[0]}{others})"
