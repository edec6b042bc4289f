"""Measures the share of a matrix's time spent outside models, attacks and defenses."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile

from benchmarks.tables import Table

__all__ = ["measure"]

HEADERS = ("images", "cells", "seconds", "inside components", "overhead %", "of which start and imports")

_CHILD = """
import json, sys, time
began = time.perf_counter()
import torch
from advbench.api import Attack, Defense
from advbench.cli.main import main
from advbench.evaluation.work import workspace as environment

inside, depth = 0.0, 0

def timed(function):
    def call(*given, **named):
        global inside, depth
        start = time.perf_counter()
        depth += 1
        try:
            return function(*given, **named)
        finally:
            depth -= 1
            if not depth:
                inside += time.perf_counter() - start
    return call

def subclasses(kind):
    for one in kind.__subclasses__():
        yield one
        yield from subclasses(one)

network = environment.Workspace.network
def counted(self, spec):
    found = network(self, spec)
    if not hasattr(found, "timed"):
        found.forward, found.timed = timed(found.forward), True
    return found
environment.Workspace.network = counted

from advbench.discovery.loading import discover
discover()
for kind, name in ((Attack, "run"), (Attack, "run_with_notes"), (Defense, "apply"), (Defense, "approximation")):
    for one in {kind, *subclasses(kind)}:
        if name in vars(one):
            setattr(one, name, timed(vars(one)[name]))
ready = time.perf_counter()
code = main(sys.argv[1:])
print(json.dumps({"inside": inside, "total": time.perf_counter() - began, "start": ready - began}), file=sys.stderr)
sys.exit(code)
"""


def measure(arguments: argparse.Namespace) -> Table:
    """Runs a matrix of four attacks and five defenses, and times every call of a component."""
    attacks = ["fgsm", "pgd", "deepfool", f"cw:search_steps=3,steps={min(arguments.cw_steps, 200)}"]
    defenses = ["none", "jpeg", "gaussian", "kmeans:clusters=16", "tvm"]
    rows = []
    for limit in sorted({min(arguments.limit, 1000) // 2, min(arguments.limit, 1000)}):
        with tempfile.TemporaryDirectory() as store:
            words = [
                "matrix", "--datasets", "mnist-5k", "--models", "mnist-cnn", "--limit", str(limit),
                "--attacks", *attacks, "--defenses", *defenses,
                "--store", store, "--device", arguments.device,
            ]  # fmt: skip
            completed = subprocess.run(
                [sys.executable, "-c", _CHILD, *words],
                env=dict(os.environ),
                capture_output=True,
                text=True,
                check=False,
            )
        if completed.returncode:
            raise RuntimeError(f"advbench {' '.join(words)} ended with {completed.returncode}:\n{completed.stderr}")
        times = json.loads(completed.stderr.strip().splitlines()[-1])
        share = 100 * (1 - times["inside"] / times["total"])
        rows.append([limit, len(attacks) * len(defenses), times["total"], times["inside"], share, times["start"]])
    note = (
        "`advbench matrix` with an empty store. Inside components: attacks, defenses and networks; nested calls are "
        "counted once. The rest is start, planning, checks, digests, store and tables."
    )
    return Table("Overhead", note, HEADERS, rows)
