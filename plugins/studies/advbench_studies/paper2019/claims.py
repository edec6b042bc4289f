"""The paper's claims, in the order of their numbers."""

from __future__ import annotations

from advbench_studies.paper2019.claim import Claim
from advbench_studies.paper2019.claims_ablations import ABLATION_CLAIMS
from advbench_studies.paper2019.claims_attacks import ATTACK_CLAIMS
from advbench_studies.paper2019.claims_defenses import DEFENSE_CLAIMS
from advbench_studies.paper2019.claims_images import IMAGE_CLAIMS
from advbench_studies.paper2019.claims_vqvae import VQVAE_CLAIMS
from advbench_studies.paper2019.claims_weights import WEIGHTS_CLAIMS

__all__ = ["CLAIMS", "Claim"]

_ALL = (*ATTACK_CLAIMS, *DEFENSE_CLAIMS, *VQVAE_CLAIMS, *ABLATION_CLAIMS, *WEIGHTS_CLAIMS, *IMAGE_CLAIMS)

CLAIMS: tuple[Claim, ...] = tuple(sorted(_ALL, key=lambda claim: claim.number))
"""All of them."""
