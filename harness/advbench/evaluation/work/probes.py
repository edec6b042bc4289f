"""Probes a defended model: are its outputs the same when repeated, and for an image alone as in a batch?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from advbench.api import Artefact, ContractError, SampleRandom
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.networks import takes_rng
from advbench.specs import Chain

__all__ = ["PROBED", "probe"]

PROBED = 16
"""How many clean images are used."""

_PASSES = 5


@torch.no_grad()
def probe(
    network: torch.nn.Module,
    chain: Chain,
    images: torch.Tensor,
    ids: Sequence[int],
    seed: int,
    *,
    fitted: Sequence[Artefact | None] = (),
) -> dict[str, float]:
    """Compares the logits of a few clean images over several passes through defense and model.

    A distance is ‖z − z'‖₂ / ‖z‖₂ for the logits of one image; the largest over images and passes counts.

    Args:
        network: The model's network, in eval mode.
        chain: The defense.
        images: Clean images, of which the first 16 are used.
        ids: Their sample ids.
        seed: The run's seed.
        fitted: What each part of the chain has fitted to data.

    Raises:
        ContractError: The model returned logits of another shape for one image.

    Returns:
        ``repeated``: the distance between five passes with the same random numbers; ``redrawn``: between five passes
        with new ones; ``alone``: between an image in the batch and alone, with the same random numbers; ``undrawn``:
        how many parts of the chain declare that they are stochastic and never draw a random number; for a stochastic
        model ``model_undrawn``: 1 if it never draws one, else 0.
    """
    images, ids = images[:PROBED], list(ids[:PROBED])
    passed = ChainPass(chain, network, len(images), fitted)

    def logits(purpose: str, rows: slice = slice(None)) -> torch.Tensor:
        rng = SampleRandom(seed, purpose, ids[rows], images.device)
        output = passed.answer(images[rows], rng).logits
        if output.ndim != 2 or len(output) != len(ids[rows]):
            raise ContractError(
                f"{getattr(network, 'label', 'the model')} returned shape {tuple(output.shape)} for a batch of "
                f"{len(ids[rows])}; expected (images, classes): a squeeze() without a dimension drops that of the batch"
            )
        return output if output.is_floating_point() else output.to(torch.float32)

    first = logits("probe")
    alone = torch.cat([logits("probe", slice(i, i + 1)) for i in range(len(ids))])
    probes = {
        "repeated": max(_distance(first, logits("probe")) for _ in range(_PASSES - 1)),
        "redrawn": max(_distance(first, logits(f"probe/{number}")) for number in range(1, _PASSES)),
        "alone": _distance(first, alone),
    }
    undrawn = sum(part.stochastic and index not in passed.drawn for index, part in enumerate(chain.parts))
    of_model = {"model_undrawn": int(len(chain.parts) not in passed.drawn)} if takes_rng(network) else {}
    return {**probes, "undrawn": undrawn, **of_model}


def _distance(one: torch.Tensor, other: torch.Tensor) -> float:
    sizes = one.norm(dim=1).clamp(min=torch.finfo(one.dtype).tiny)
    return float(((one - other).norm(dim=1) / sizes).max())
