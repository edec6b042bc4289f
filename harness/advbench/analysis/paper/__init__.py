"""The paper that advbench grew from: its setting, its claims, and what results say of them.

Tan, Te and Lai 2019, Learning Adversarially Robust and Rich Image Transformations for Object Classification.
"""

from __future__ import annotations

from advbench.analysis.paper.claims import CLAIMS, Claim
from advbench.analysis.paper.evidence import Evidence, Study, View
from advbench.analysis.paper.reproduction import REPRODUCTION_SCHEMA, build_reproduction
from advbench.analysis.paper.setting import ATTACKS, DATASETS, DEFENSES, FULL, PROTOCOLS
from advbench.analysis.paper.verdict import FAILS, HOLDS, NOT_RUN, Check, decide

__all__ = [
    "ATTACKS",
    "CLAIMS",
    "DATASETS",
    "DEFENSES",
    "FAILS",
    "FULL",
    "HOLDS",
    "NOT_RUN",
    "PROTOCOLS",
    "REPRODUCTION_SCHEMA",
    "Check",
    "Claim",
    "Evidence",
    "Study",
    "View",
    "build_reproduction",
    "decide",
]
