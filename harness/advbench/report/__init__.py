"""Reports: results as leaderboards in the terminal and in files."""

from __future__ import annotations

from advbench.report.audit import print_audit, render_audit
from advbench.report.comparison import comparison_markdown, print_comparison
from advbench.report.export import Export, plan_exports, plan_outputs, write_export
from advbench.report.terminal import print_results

__all__ = [
    "Export",
    "comparison_markdown",
    "plan_exports",
    "plan_outputs",
    "print_audit",
    "print_comparison",
    "print_results",
    "render_audit",
    "write_export",
]
