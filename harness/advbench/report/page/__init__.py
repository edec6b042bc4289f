"""The report: results as one page that needs nothing but a browser."""

from __future__ import annotations

from advbench.report.page.gallery import Gallery
from advbench.report.page.reporter import Html

__all__ = ["Gallery", "Html"]
