"""The HTML report: results as one self-contained page."""

from __future__ import annotations

from advbench.report.page.gallery import Gallery
from advbench.report.page.reporter import Html

__all__ = ["Gallery", "Html"]
