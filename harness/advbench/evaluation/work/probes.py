"""Probes a defended model: are its outputs the same when repeated, and for an image alone as in a batch?"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from advbench.api import Answer, Artefact, ContractError, SampleRandom
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
    """Compares the answers for a few clean images over several passes through defense and model.

    A distance is ‖z − z'‖₂ / ‖z‖₂ for the logits of one image; the largest over images and passes counts. For a defense
    that rejects images, it is |s − s'| for their scores, as a share of the median |s|, if that is larger.

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

    def answer(purpose: str, rows: slice = slice(None)) -> Answer:
        rng = SampleRandom(seed, purpose, ids[rows], images.device)
        output, score = passed.answer(images[rows], rng)
        if output.ndim != 2 or len(output) != len(ids[rows]):
            raise ContractError(
                f"{getattr(network, 'label', 'the model')} returned shape {tuple(output.shape)} for a batch of "
                f"{len(ids[rows])}; expected (images, classes): a squeeze() without a dimension drops that of the batch"
            )
        return Answer(output if output.is_floating_point() else output.to(torch.float32), score)

    first = answer("probe")
    alone = _together([answer("probe", slice(i, i + 1)) for i in range(len(ids))])
    probes = {
        "repeated": max(_distance(first, answer("probe")) for _ in range(_PASSES - 1)),
        "redrawn": max(_distance(first, answer(f"probe/{number}")) for number in range(1, _PASSES)),
        "alone": _distance(first, alone),
    }
    undrawn = sum(part.stochastic and index not in passed.drawn for index, part in enumerate(chain.parts))
    of_model = {"model_undrawn": int(len(chain.parts) not in passed.drawn)} if takes_rng(network) else {}
    return {**probes, "undrawn": undrawn, **of_model}


def _together(answers: Sequence[Answer]) -> Answer:
    """The answers for single images as one."""
    scores = [one.score for one in answers if one.score is not None]
    return Answer(torch.cat([one.logits for one in answers]), torch.cat(scores) if scores else None)


def _distance(one: Answer, other: Answer) -> float:
    """The distance of logits, or of scores if it is larger: relative to the median size of the scores."""
    sizes = one.logits.norm(dim=1).clamp(min=torch.finfo(one.logits.dtype).tiny)
    distance = float(((one.logits - other.logits).norm(dim=1) / sizes).max())
    if one.score is None or other.score is None or one.score.shape != other.score.shape:
        return distance
    size = one.score.abs().median().clamp(min=torch.finfo(one.score.dtype).tiny)
    return max(distance, float((one.score - other.score).abs().max() / size))
