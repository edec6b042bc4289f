"""Reports: rendering results in the terminal and in files."""

from __future__ import annotations

from advbench.report.audit import print_audit, render_audit
from advbench.report.comparison import comparison_markdown, print_comparison
from advbench.report.data_files import rows_of
from advbench.report.export import Export, plan_exports, plan_outputs, write_export
from advbench.report.notebook import leaderboards_html
from advbench.report.page import Gallery, Html
from advbench.report.sweeps import with_sweep_names
from advbench.report.terminal import print_leaderboards, print_results

__all__ = [
    "Export",
    "Gallery",
    "Html",
    "comparison_markdown",
    "leaderboards_html",
    "plan_exports",
    "plan_outputs",
    "print_audit",
    "print_comparison",
    "print_leaderboards",
    "print_results",
    "render_audit",
    "rows_of",
    "with_sweep_names",
    "write_export",
]
