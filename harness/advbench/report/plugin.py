"""Registers advbench's own reporters."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api import Reporter, hookimpl
from advbench.report.data_files import Csv, Json
from advbench.report.markdown import Markdown
from advbench.report.page import Html


@hookimpl
def register_reporters(register: Callable[[type[Reporter]], None]) -> None:
    """Registers ``markdown``, ``html``, ``json`` and ``csv``."""
    for reporter in (Markdown, Html, Json, Csv):
        register(reporter)
