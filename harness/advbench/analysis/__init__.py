"""Analysis of stored results, as pure functions."""

from __future__ import annotations

from advbench.analysis.comparison import compare_components, compare_defenses, compare_runs, settings_that_differ
from advbench.analysis.details import MOST_CLASSES, cell_details
from advbench.analysis.example_images import SHOWN_SAMPLES, CellExamples, Views
from advbench.analysis.intervals import wilson
from advbench.analysis.measures import measure_cell, robust_bits, worst_case
from advbench.analysis.results import NOT_ADAPTIVE, RESULTS_SCHEMA, build_results
from advbench.analysis.seeds import combine_seeds
from advbench.analysis.summary import Summary, summarise
from advbench.analysis.thumbnails import sample_rows

__all__ = [
    "MOST_CLASSES",
    "NOT_ADAPTIVE",
    "RESULTS_SCHEMA",
    "SHOWN_SAMPLES",
    "CellExamples",
    "Summary",
    "Views",
    "build_results",
    "cell_details",
    "combine_seeds",
    "compare_components",
    "compare_defenses",
    "compare_runs",
    "measure_cell",
    "robust_bits",
    "sample_rows",
    "settings_that_differ",
    "summarise",
    "wilson",
    "worst_case",
]
