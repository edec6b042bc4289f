"""``advbench artefact``: writes what an attack or a defense has fitted to data into a file."""

from __future__ import annotations

import argparse
from pathlib import Path

from advbench.cli.flags import add_store
from advbench.cli.parser import suggest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the arguments."""
    run = parser.add_argument("run", metavar="RUN", help="a run: its id, its name, or 'latest'")
    suggest(run, "latest")
    parser.add_argument(
        "cell",
        metavar="CELL",
        help="the attack or the defense; if it was fitted several times, with other coordinates of the cell, such as "
        "'patch:area=0.1 adaptive jpeg' or, with one of several surrogates, 'patch surrogate=mnist-cnn'",
    )
    parser.add_argument(
        "file",
        type=Path,
        metavar="FILE",
        help="what to write: a .safetensors file, which the parameter 'file' of the attack or defense reads; or a "
        ".png file for an artefact that is one image",
    )
    parser.add_argument(
        "--of",
        metavar="WHOSE",
        default="",
        help="whose artefact, if several are fitted: attack, defense, or the name or number of a part of a chain; by "
        "default the attack's if CELL names it, or else the defense's",
    )
    add_store(parser)


def run(options: argparse.Namespace) -> int:
    """Runs the command.

    Raises:
        UsageError: The run has no such cell, or its artefact cannot be written.
    """
    from advbench.session.artefacts import fitted_artefact, write_artefact
    from advbench.session.opening import messages, open_store, print_line, set_up_logging
    from advbench.session.options import LoadOptions
    from advbench.session.stored_runs import find_run

    console = messages()
    set_up_logging(console, 0)
    store = open_store(LoadOptions.of(vars(options)))
    found = fitted_artefact(find_run(store, options.run), options.cell, options.of)
    print_line(console, write_artefact(store, found.key, options.file))
    return 0
