"""Compares advbench with other libraries on the same work, in one process and one run.

Run from the root of the checkout::

    python -m benchmarks                          # everything; takes hours, most of them in the peers
    python -m benchmarks attacks --limit 100      # one part
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib.metadata
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from advbench.process.allocator import keep_freed_memory
from benchmarks import attacks, defenses, matrix, overhead, scaling
from benchmarks.samples import load_samples
from benchmarks.settings import Settings
from benchmarks.tables import Table, write

__all__ = ["main"]


def main(arguments_text: Sequence[str] | None = None) -> None:
    """Parses the command line, runs the parts, prints each table and writes the report."""
    parser = _parser()
    arguments = parser.parse_args(arguments_text)
    choices = {
        "parts": (arguments.parts, list(PARTS)),
        "--attacks": (arguments.attacks.split(","), attacks.COMPARISONS),
        "--peers": (arguments.peers.split(","), list(attacks.PEERS)),
    }
    for option, (names, allowed) in choices.items():
        for name in names:
            if name not in allowed:
                parser.error(f"{option}: there is no {name!r}; there are {', '.join(allowed)}")
    metadata = _metadata(arguments, sys.argv[1:] if arguments_text is None else list(arguments_text))
    keep_freed_memory()  # as advbench does in its own processes; the peers benefit equally
    heading = "\n".join([f"# {metadata['title']}", "", *(f"- {key}: {value}" for key, value in metadata.items()), ""])
    tables = []
    for part in arguments.parts or PARTS:
        table = PARTS[part](arguments)
        print(table.markdown(), flush=True)
        tables.append(table)
        if arguments.output is not None:
            write(tables, heading, arguments.output, metadata)


def _attacks(arguments: argparse.Namespace) -> Table:
    settings = Settings(**{field.name: getattr(arguments, field.name) for field in dataclasses.fields(Settings)})
    samples = load_samples(
        arguments.model, arguments.dataset, arguments.limit,
        seed=arguments.seed, device=arguments.device, data_dir=arguments.data_dir,
    )  # fmt: skip
    selected = arguments.attacks.split(",")

    def rows() -> Iterator[list[object]]:
        for comparison in attacks.comparisons(settings):
            if comparison.name in selected:
                yield from attacks.run_comparison(
                    comparison, samples, settings, peers=arguments.peers.split(","),
                    repeats=arguments.repeats, batch_size=arguments.batch_size, seed=arguments.seed,
                    capped=not arguments.no_cap,
                )  # fmt: skip

    note = (
        f"{arguments.model} on {arguments.dataset}, batches of {arguments.batch_size}; medians of "
        f"{arguments.repeats} interleaved repetitions. Passes are images through the network per sample."
    )
    return Table("Attacks", note, attacks.HEADERS, _echo_rows(rows()))


def _defenses(arguments: argparse.Namespace) -> Table:
    rows = defenses.compare(
        min(arguments.limit, 200), repeats=arguments.repeats, seed=arguments.seed, data_dir=arguments.data_dir
    )
    note = "Median times per image; CPU ms is the time of all threads. The loop calls a library once per image."
    return Table("Defenses", note, defenses.HEADERS, _echo_rows(rows))


PARTS: dict[str, Callable[[argparse.Namespace], Table]] = {
    "attacks": _attacks,
    "defenses": _defenses,
    "matrix": matrix.measure,
    "overhead": overhead.measure,
    "scaling": scaling.measure,
}
"""The parts, in the order they run."""


def _echo_rows(rows: Iterator[list[object]]) -> list[list[object]]:
    """Returns the rows, and prints each on stderr as soon as it is available."""
    collected = []
    for row in rows:
        print(*row, sep="  ", file=sys.stderr, flush=True)
        collected.append(row)
    return collected


def _metadata(arguments: argparse.Namespace, arguments_text: list[str]) -> dict[str, str]:
    libraries = (
        "torch",
        "foolbox",
        "torchattacks",
        "adversarial-robustness-toolbox",
        "adv-lib",
        "scikit-learn",
        "pillow",
    )
    return {
        "title": "advbench beside other libraries",
        "command": " ".join(["python -m benchmarks", *arguments_text]),
        "when": time.strftime("%Y-%m-%d"),
        "where": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads, {arguments.device}",
        "libraries": ", ".join(f"{name} {_version(name)}" for name in libraries),
    }


def _version(library: str) -> str:
    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; without any, all")
    parser.add_argument("--limit", type=int, default=1000, help="how many images, fewer for slow peers (default 1000)")
    parser.add_argument("--repeats", type=int, default=3, help="repetitions, interleaved (default 3)")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write report.md and report.json there")
    parser.add_argument("--model", default="mnist-cnn", help="the model that is attacked")
    parser.add_argument("--dataset", default="mnist-5k", help="its images")
    parser.add_argument("--data-dir", type=Path, help="folder with datasets")
    parser.add_argument("--attacks", default=",".join(attacks.COMPARISONS), help="which attacks, separated by commas")
    parser.add_argument("--peers", default=",".join(attacks.PEERS), help="which libraries, separated by commas")
    parser.add_argument("--batch-size", type=int, default=250)
    parser.add_argument(
        "--no-cap", action="store_true", help="all of --limit also where a peer takes seconds an image (CW, searches)"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda:N")
    for field in dataclasses.fields(Settings):
        kind = type(field.default)
        parser.add_argument(
            f"--{field.name.replace('_', '-')}", type=kind, default=field.default, help=argparse.SUPPRESS
        )
    return parser


if __name__ == "__main__":
    main()
