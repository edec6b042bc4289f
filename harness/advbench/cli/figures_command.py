"""``advbench figures``: figures of an earlier run, for print."""

from __future__ import annotations

import argparse
from pathlib import Path

from advbench.cli.flags import add_data_dir, add_plugin_flags, add_run, add_store
from advbench.session.values import at_least, device

KINDS = ("attacks", "reconstructions", "strips", "confusion", "eps", "sweep", "scatter")
"""The kinds of figures, with which their files' names begin."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the flags."""
    add_run(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder to write to, made if missing")
    parser.add_argument(
        "--format", nargs="+", choices=("png", "svg", "pdf"), default=["png"], help="in which formats (default: png)"
    )
    parser.add_argument(
        "--samples", type=at_least(0), default=8, metavar="N", help="samples in figures of images; 0 draws none of them"
    )
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="which figures (default: all)")
    add_store(parser)
    add_data_dir(parser)
    parser.add_argument("--device", type=device, default="auto", metavar="auto|cpu|cuda:N", help="where to compute")
    add_plugin_flags(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command."""
    from advbench.cli.figures_run import draw_figures

    return draw_figures(options)
