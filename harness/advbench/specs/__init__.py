"""Specs: text to components and back, sweeps, chains and suites."""

from __future__ import annotations

from advbench.api.spec_text import quote
from advbench.specs.aliases import Alias, find_aliases, is_alias, similar_alias, split_alias
from advbench.specs.chain import Chain, transforms_images
from advbench.specs.counterparts import changed_parameters, counterparts
from advbench.specs.formatting import full_spec, short_spec
from advbench.specs.grammar import Term, expand, parse_chain
from advbench.specs.selection import narrow, resolve, resolve_chain, resolve_one, select, select_aliases, select_chains
from advbench.specs.suite import (
    AXES,
    CUSTOM,
    DEFAULT_SUITE,
    EFFORTS,
    FIT_SAMPLES,
    FLOAT32,
    PRECISIONS,
    Part,
    Suite,
    load_suite,
    shipped_suites,
)

__all__ = [
    "AXES",
    "CUSTOM",
    "DEFAULT_SUITE",
    "EFFORTS",
    "FIT_SAMPLES",
    "FLOAT32",
    "PRECISIONS",
    "Alias",
    "Chain",
    "Part",
    "Suite",
    "Term",
    "changed_parameters",
    "counterparts",
    "expand",
    "find_aliases",
    "full_spec",
    "is_alias",
    "load_suite",
    "narrow",
    "parse_chain",
    "quote",
    "resolve",
    "resolve_chain",
    "resolve_one",
    "select",
    "select_aliases",
    "select_chains",
    "shipped_suites",
    "short_spec",
    "similar_alias",
    "split_alias",
    "transforms_images",
]
