"""What stands under every leaderboard: how to read it, and what made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from advbench.specs import FLOAT32

__all__ = ["READING", "attack_settings", "failures", "provenance"]

READING = (
    "Robust accuracy in % of all samples: right both on the clean and on the attacked image. Worst case: per sample, "
    "the minimum over the attacks, with Wilson's 95 % interval."
)


def provenance(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each fact about the run."""
    run = results["run"]
    seeds: Mapping[str, str] = run.get("seeds") or {str(run["seed"]): run["run"]}
    how = f"seed{'s' * (len(seeds) > 1)} {', '.join(seeds)}, {run['device']}, {run['threads']} threads"
    precision = run.get("precision", FLOAT32)  # earlier versions do not say it
    how += "" if precision == FLOAT32 else f", attacked in {precision} and scored in {FLOAT32}"
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return [
        ("command", run["command"]),
        ("run", f"{', '.join(seeds.values())} ({run['created']}), {how}"),
        ("versions", versions),
    ]


def attack_settings(results: Mapping[str, Any]) -> list[str]:
    """The attacks with all their parameters, in the order of the columns."""
    return list(dict.fromkeys(cell["attack"] for cell in results["cells"]))


def failures(results: Mapping[str, Any]) -> list[str]:
    """A line for every distinct failure, skip or warning, with the first of the cells that it concerns."""
    found: dict[str, list[str]] = {}
    for cell in results["cells"]:
        if cell["status"] == "ok" and not cell["warnings"]:
            continue
        short = cell["short"]
        model = f"{short['dataset']}, {short['model']}"
        if cell["status"] == "error":
            found.setdefault(f"ERR {cell['error']}", []).append(f"{model}, {short['attack']}, {short['defense']}")
        elif cell["status"] == "skipped" and cell["error"] != "not run":
            found.setdefault(f"skipped: {cell['error']}", [])
        for warning in cell["warnings"]:
            found.setdefault(f"{model}: {warning}", [])
    return [_with_place(message, places) for message, places in found.items()]


def _with_place(message: str, places: list[str]) -> str:
    if not places:
        return message
    more = len(places) - 1
    others = f" and {more} more cell{'' if more == 1 else 's'}" if more else ""
    return f"{message} ({places[0]}{others})"
