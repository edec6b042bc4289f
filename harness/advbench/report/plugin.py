"""Registers advbench's own reporters."""

from __future__ import annotations

from collections.abc import Callable

from advbench.api.hookspecs import hookimpl
from advbench.api.reporter import Reporter
from advbench.report.data_files import Csv, Json
from advbench.report.latex import Latex
from advbench.report.markdown import Markdown
from advbench.report.page import Html


@hookimpl
def register_reporters(register: Callable[[type[Reporter]], None]) -> None:
    """Registers ``markdown``, ``html``, ``latex``, ``csv`` and ``json``."""
    for reporter in (Markdown, Html, Latex, Csv, Json):
        register(reporter)
