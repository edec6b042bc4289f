"""Registers advbench's own reporters."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api import Reporter, hookimpl
from advbench.report.data_files import Csv, Json
from advbench.report.markdown import Markdown


@hookimpl
def register_reporters(register: Callable[[type[Reporter]], None]) -> None:
    """Registers ``markdown``, ``json`` and ``csv``."""
    for reporter in (Markdown, Json, Csv):
        register(reporter)
