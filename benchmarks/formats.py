"""Times networks with their channels first or last, in float32 and bfloat16: one gradient at an image, at 224×224.

Run from the root of the checkout, with timm installed::

    OMP_NUM_THREADS=1 python -m benchmarks.formats

The networks are timm's, with random weights, set up as by ``memory_format`` and ``--precision``.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import os
from functools import partial

import timm  # type: ignore[import-untyped,import-not-found,unused-ignore]
import torch
from tabulate import tabulate

from advbench.evaluation.work.networks import LowPrecision
from advbench.process.allocator import keep_freed_memory
from advbench_models.execution import MEMORY_FORMATS, in_memory_format
from benchmarks.timing import time_interleaved

__all__ = ["main"]

_ARCHITECTURES = ("efficientnet_lite0", "resnet18", "resnet50", "densenet121", "convnext_tiny", "vit_tiny_patch16_224")


def main() -> None:
    """Prints a row for each architecture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archs", nargs="+", default=list(_ARCHITECTURES), help="architectures of timm")
    parser.add_argument("--images", type=int, default=8, help="number of images in a batch")
    parser.add_argument("--repeats", type=int, default=5, help="number of repetitions")
    options = parser.parse_args()
    keep_freed_memory()  # as when advbench runs
    variants = list(itertools.product(reversed(MEMORY_FORMATS), ("float32", "bfloat16")))
    rows = []
    for arch in options.archs:
        torch.manual_seed(0)
        network = timm.create_model(arch, pretrained=False).eval().requires_grad_(False)
        networks = {variant: _variant(copy.deepcopy(network), *variant) for variant in variants}
        images = torch.rand(options.images, 3, 224, 224)
        runs = {" ".join(variant): partial(_gradient, one, images) for variant, one in networks.items()}
        timed = time_interleaved(runs, options.repeats + 1)
        # The first repetition prepares the operations.
        seconds = [sorted(one.cpu_seconds[1:])[options.repeats // 2] for one in timed.values()]
        ratios = [f"{other / seconds[0]:.2f}" for other in seconds[1:]]
        rows.append((arch, f"{1000 * seconds[0] / options.images:.1f}", *ratios))
    head = ("network", f"{' '.join(variants[0])}, ms an image", *(" ".join(variant) for variant in variants[1:]))
    print(f"{torch.get_num_threads()} thread(s) of {os.cpu_count()} cores; CPU time, medians of {options.repeats}\n")
    print(tabulate(rows, head, tablefmt="github", disable_numparse=True))


def _variant(network: torch.nn.Module, memory_format: str, precision: str) -> torch.nn.Module:
    network = in_memory_format(network, memory_format)
    return LowPrecision(network) if precision == "bfloat16" else network


def _gradient(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    points = images.clone().requires_grad_()
    logits = network(points).float()
    return torch.autograd.grad(logits.logsumexp(dim=1).sum(), points)[0]


if __name__ == "__main__":
    main()
