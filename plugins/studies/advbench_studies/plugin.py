"""The studies that come with advbench. Imports no torch, since it is loaded before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from importlib import resources
from typing import TYPE_CHECKING

from advbench.api import StudyCommand, hookimpl
from advbench_studies.paper2019.arguments import add_arguments

if TYPE_CHECKING:
    from importlib.abc import Traversable

    from advbench.results import StudySession

__all__ = ["register_commands", "register_suites"]


@hookimpl
def register_suites(register: Callable[[str, Traversable], None]) -> None:
    """Registers the suites of the paper and of the shelf."""
    for study in ("paper2019", "shelf"):
        folder = resources.files(f"advbench_studies.{study}") / "suites"
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if file.name.endswith(".toml"):
                register(file.name.removesuffix(".toml"), file)


@hookimpl
def register_commands(register: Callable[[StudyCommand], None]) -> None:
    """Registers ``advbench reproduce paper``."""
    register(
        StudyCommand(
            "paper", "Tan, Te and Lai 2019, the paper that advbench started from", _reproduce_paper, add_arguments
        )
    )


def _reproduce_paper(study: StudySession) -> int:
    from advbench_studies.paper2019.command import run

    return run(study)
