"""What stands under every leaderboard: how to read it, and what made it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["READING", "attack_settings", "failures", "provenance"]

READING = (
    "Robust accuracy in % of all samples: right both on the clean and on the attacked image. Worst case: per sample, "
    "the minimum over the attacks, with Wilson's 95 % interval."
)


def provenance(results: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Label and text of each fact about the run."""
    run = results["run"]
    versions = ", ".join(f"{name} {version}" for name, version in run["versions"].items())
    return [
        ("command", run["command"]),
        ("run", f"{run['run']} ({run['created']}), seed {run['seed']}, {run['device']}, {run['threads']} threads"),
        ("versions", versions),
    ]


def attack_settings(results: Mapping[str, Any]) -> list[str]:
    """The attacks with all their parameters, in the order of the columns."""
    return list(dict.fromkeys(cell["attack"] for cell in results["cells"]))


def failures(results: Mapping[str, Any]) -> list[str]:
    """A line for every distinct failure, skip or warning among the cells."""
    lines: dict[str, None] = {}
    for cell in results["cells"]:
        short = cell["short"]
        if cell["status"] == "error":
            lines[f"ERR {short['attack']} through {short['defense']} ({short['model']}): {cell['error']}"] = None
        elif cell["status"] == "skipped" and cell["error"] != "not run":
            lines[f"skipped {short['dataset']} with {short['model']}: {cell['error']}"] = None
        for warning in cell["warnings"]:
            lines[f"{short['dataset']}, {short['model']}: {warning}"] = None
    return list(lines)
