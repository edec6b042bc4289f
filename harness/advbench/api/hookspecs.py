"""The hooks that a plugin may implement.

An entry point of the group ``advbench`` names a module (or object) with any of the functions that register
components, each decorated with :data:`hookimpl` and calling ``register`` once for each class. An entry point of the
group ``advbench.studies`` names a module with ``register_suites`` or ``register_commands``; such a module imports no
torch, since it is loaded before anything runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.abc import Traversable
    from pathlib import Path

    from advbench.api.attack import Attack
    from advbench.api.commands import StudyCommand
    from advbench.api.dataset import Dataset
    from advbench.api.defense import Defense
    from advbench.api.executor import Executor
    from advbench.api.model import Model
    from advbench.api.reporter import Reporter

__all__ = ["API_VERSION", "OLDEST_API_VERSION", "PROJECT", "hookimpl", "hookspec"]

API_VERSION = 2
"""Version of these contracts. A plugin module may set ``API_VERSION = 2``; an advbench with an older API refuses it.
Version 1 lacks goals and :meth:`advbench.api.Attack.craft`; its modules work, with a warning."""

OLDEST_API_VERSION = 1
"""The oldest version whose modules still work."""

PROJECT = "advbench"
"""Name of the entry-point group and of the pluggy project."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def register_attacks(register: Callable[[type[Attack]], None]) -> None:
    """Registers attacks."""


@hookspec
def register_defenses(register: Callable[[type[Defense]], None]) -> None:
    """Registers defenses."""


@hookspec
def register_models(register: Callable[[type[Model]], None]) -> None:
    """Registers models."""


@hookspec
def register_datasets(register: Callable[[type[Dataset]], None]) -> None:
    """Registers datasets."""


@hookspec
def register_executors(register: Callable[[type[Executor]], None]) -> None:
    """Registers executors."""


@hookspec
def register_reporters(register: Callable[[type[Reporter]], None]) -> None:
    """Registers reporters."""


@hookspec
def register_suites(register: Callable[[str, Path | Traversable], None]) -> None:
    """Registers suites: ``register(name, file)``, with a TOML file as a ``Path`` or from ``importlib.resources``."""


@hookspec
def register_commands(register: Callable[[StudyCommand], None]) -> None:
    """Registers studies that ``advbench reproduce NAME`` runs."""
