"""Reports of a reproduction of the paper: in the terminal, as Markdown and as JSON."""

from __future__ import annotations

from advbench.report.paper.files import PaperJson, PaperMarkdown
from advbench.report.paper.terminal import print_reproduction

__all__ = ["PaperJson", "PaperMarkdown", "print_reproduction"]
