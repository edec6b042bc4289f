"""The data of single cells for the page's script, as texts that are ready to be shown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from advbench.analysis.class_labels import class_label
from advbench.api.goal import UNTARGETED
from advbench.api.parameters import format_value
from advbench.report.board import NORMS, format_size, percent
from advbench.report.page.certificates import certificate_details
from advbench.report.protocols import protocol_facts

__all__ = ["cell_payload", "certificate_place"]

_OPTIONAL = ("before", "after", "confused_before", "confused_after", "histogram", "samples")


def cell_payload(results: Mapping[str, Any]) -> dict[str, Any]:
    """The cells in the order of the results, with their images.

    Returns:
        ``images`` (data URIs), ``notes``, ``classes`` (class names by dataset), and ``cells``: ``dataset``, ``title``,
        ``badges``, ``facts`` (pairs of texts), ``warnings``, and if known ``before``, ``after``, ``confused_before``,
        ``confused_after``, ``histogram`` and ``samples``. For results of several seeds, ``seed`` is the seed of these.
        The entries of :func:`~advbench.report.page.certificates.certificate_details` follow.
    """
    details = results.get("details") or {"cells": {}, "images": [], "notes": []}
    return {
        "images": details["images"],
        "notes": details["notes"],
        "classes": results["run"].get("class_names", {}),
        "cells": [
            *(
                _cell(cell, details["cells"].get(str(index), {}), results["run"])
                for index, cell in enumerate(results["cells"])
            ),
            *(
                certificate_details(entry, details.get("certificates", {}).get(str(number)), results["run"])
                for number, entry in enumerate(results.get("certificates", ()))
            ),
        ],
    }


def certificate_place(results: Mapping[str, Any], number: int) -> int:
    """The place of the details of certificates in :func:`cell_payload`: after all cells."""
    return len(results["cells"]) + number


def _cell(cell: Mapping[str, Any], details: Mapping[str, Any], run: Mapping[str, Any]) -> dict[str, Any]:
    short, seeds = cell["short"], list(run.get("seeds", ()))
    return {
        "dataset": cell["dataset"],
        "title": f"{short['defense']} against {short['attack']}",
        "badges": [
            cell["threat"],
            *([f"on {short['surrogate']}"] if "surrogate" in short else []),
            *(["stochastic"] if cell.get("stochastic") else []),
        ],
        "facts": list(_facts(cell, details, seeds, run.get("class_names", {}).get(cell["dataset"], ()))),
        "warnings": cell["warnings"],
        **{key: details[key] for key in _OPTIONAL if details.get(key) is not None},
        **({"seed": seeds[0]} if len(seeds) > 1 else {}),
    }


def _facts(
    cell: Mapping[str, Any], details: Mapping[str, Any], seeds: Sequence[str], class_names: Sequence[str]
) -> Iterator[tuple[str, str]]:
    """Labels and texts of the details of a cell. With several seeds, numbers are means unless they name their seed."""
    yield "dataset", cell["dataset"]
    yield "model", cell["model"]
    yield "attack", cell["attack"]
    yield "defense", cell["defense"]
    yield "threat", cell["threat"]
    if "surrogate" in cell["short"]:
        yield "surrogate", cell["surrogate"]
    if cell["status"] != "ok":
        yield cell["status"], cell["error"]
        return
    if len(seeds) > 1:
        yield "seeds", f"{', '.join(seeds)}; the numbers are means over them"
    yield "samples", f"{cell['n']:,}"
    yield "clean accuracy", f"{percent(cell['clean_accuracy'])} %"
    low, high = cell["robust_accuracy_ci95"]
    yield "robust accuracy", f"{percent(cell['robust_accuracy'])} % (95 % interval {percent(low)}–{percent(high)})"
    by_seed = cell.get("robust_accuracy_seeds")
    if by_seed:
        yield "by seed", ", ".join(f"{percent(value)} %" for value in by_seed["values"])
    draws = cell.get("robust_accuracy_draws")
    if draws:
        spread = f"{percent(draws['min'])}–{percent(draws['max'])} %, standard deviation {percent(draws['std'])}"
        yield f"over {draws['n']} draws{' per seed' * (len(seeds) > 1)}", spread
    yield from protocol_facts(cell)
    if cell["attack_success_rate"] is not None:
        yield "attack success rate", f"{percent(cell['attack_success_rate'])} %"
    if cell.get("goal", UNTARGETED) != UNTARGETED:
        rate = cell["target_success_rate"]
        yield "goal", _goal(cell["goal"], class_names)
        yield "target success rate", "no sample counts" if rate is None else f"{percent(rate)} %"
    if cell.get("rejection"):
        rejection = cell["rejection"]
        clean, adversarial = percent(rejection["clean_rate"]), percent(rejection["adversarial_rate"])
        yield "rejected", f"{clean} % of clean images, {adversarial} % of adversarial images"
        yield "AUROC of the score", f"{rejection['auroc']:.3f}"
        yield "robust accuracy, rejected as wrong", f"{percent(rejection['accuracy_rejected_wrong'])} %"
    yield from _perturbation_facts(cell)
    if cell.get("broken_by"):
        yield "fooled by", ", ".join(f"{name}: {count:.10g}" for name, count in cell["broken_by"].items())
    yield from _query_facts(cell)
    if details.get("passes"):
        seed = f" (seed {seeds[0]})" if len(seeds) > 1 else ""
        yield "network passes", f"{details['passes']:,.1f} images per sample{seed}"
    yield "time", f"attack {_seconds(cell['craft_seconds'])}, defense and prediction {_seconds(cell['seconds'])}"


def _goal(goal: str, class_names: Sequence[str]) -> str:
    """A goal, with the name of its class if it is one."""
    if not goal.isdecimal():
        return goal
    return f"class {class_label(int(goal), class_names)}"


def _query_facts(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The queries of a sample, and what the attack achieves with them; nothing for results of earlier versions."""
    queries = cell.get("queries")
    if not queries or not queries["forwards"]:
        return
    total = f"{queries['forwards']:,.0f} forward, {queries['backwards']:,.0f} backward"
    median = queries["median_forwards"]
    yield "queries", total if median is None else f"{total}, median of a sample {median:,.6g} forward"
    if queries["median_to_success"] is not None:
        yield "queries to success", f"median {queries['median_to_success']:,.6g}"
    sizes = queries["best_sizes"]
    if sizes and any(median is not None for median in sizes["median"]):
        found = zip(sizes["queries"], sizes["median"], strict=True)
        steps = [f"{median:.4g} at {count:,}" for count, median in found if median is not None]
        yield f"median {NORMS[sizes['norm']]} by queries", ", ".join(steps)


def _perturbation_facts(cell: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The perturbation set, and the median sizes of the perturbations."""
    if cell["attack_kind"] == "budget":
        yield "budget", f"{NORMS[cell['budget']['norm']]} ≤ {format_value(cell['budget']['eps'])}"
    if cell["attack_kind"] in ("set", "natural"):
        yield "perturbation set", cell["perturbation"]["label"]
        if cell["median_size"] is not None:
            size = cell["perturbation"]["size"]
            yield f"median {size}", format_size(size, cell["median_size"])
    for key, title in (("median_linf", "median L∞"), ("median_l2", "median L2")):
        if cell[key] is not None:
            yield title, f"{cell[key]:.4g}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"
