"""Detectors: threshold, spread and score, and the logits that attacks see."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch

from advbench.analysis.rejection import auroc
from advbench.api import Answer, Artefact, ContractError, Detector, FitData, SampleRandom


@dataclass(frozen=True)
class FirstPixel(Detector):
    """The suspicion is the first pixel."""

    name = "first-pixel"

    def suspicion(self, network: torch.nn.Module, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        return images[:, 0, 0, 0]


def fit(values: list[float], fpr: float) -> Artefact:
    images = torch.tensor(values)[:, None, None, None].expand(-1, 1, 2, 2)
    ids = torch.arange(len(values))
    data = FitData(lambda places: images[places].clone(), torch.zeros_like(ids), ids)
    return FirstPixel(fpr=fpr).fit(torch.nn.Flatten(), data, SampleRandom(0, "fit", ids.tolist()))


@pytest.mark.parametrize(("fpr", "place"), [(0.05, 949), (0.5, 499), (0.999, 0), (0.0001, 998)])
def test_the_threshold_is_the_upper_quantile_and_the_spread_the_deviation(fpr: float, place: int) -> None:
    values = torch.rand(999, generator=torch.Generator().manual_seed(0))
    fitted = fit(values.tolist(), fpr)
    assert fitted["threshold"] == float(values.sort().values[place])
    assert fitted["spread"] == pytest.approx(float(values.double().std(correction=0)), rel=1e-12)


def test_equal_suspicions_have_a_spread_of_1() -> None:
    assert fit([0.25] * 5, 0.05) == {"threshold": 0.25, "spread": 1.0}


def test_an_image_at_the_threshold_is_accepted() -> None:
    fitted = fit([0.1, 0.2, 0.3], 0.05)
    images = torch.tensor([0.3, 0.31])[:, None, None, None].expand(-1, 1, 2, 2)
    answer = FirstPixel().classify(torch.nn.Flatten(), images, SampleRandom(0, "c", [0, 1]), fitted)
    assert answer.score is not None
    assert (answer.score > 0).tolist() == [False, True]


def test_a_detector_that_is_not_fitted_says_so() -> None:
    with pytest.raises(ContractError, match="detector 'first-pixel' classifies before it has been fitted"):
        FirstPixel().classify(torch.nn.Flatten(), torch.zeros(1, 1, 2, 2), SampleRandom(0, "c", [0]))


def test_attacks_see_a_wrong_class_exactly_where_an_image_is_accepted_and_wrong() -> None:
    generator = torch.Generator().manual_seed(0)
    logits, score = torch.randn(2000, 4, generator=generator), torch.randn(2000, generator=generator)
    labels = torch.randint(0, 4, (2000,), generator=generator)
    seen = FirstPixel().attack_logits(Answer(logits, score), labels)
    accepted_and_wrong = (score <= 0) & (logits.argmax(dim=1) != labels)
    assert torch.equal(seen.argmax(dim=1) != labels, accepted_and_wrong)
    others = torch.ones_like(logits, dtype=torch.bool).scatter(1, labels[:, None], value=False)
    assert torch.equal(seen[others], logits[others])
    assert 300 < int(accepted_and_wrong.sum()) < 1700


def test_auroc_counts_ties_half() -> None:
    assert auroc([0.0, 1.0], [1.0, 2.0]) == (0.5 + 1 + 1 + 1) / 4
    assert auroc([1.0], [1.0]) == 0.5
