"""RayS: the nearest boundary along a direction of signs, from labels alone."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from tests.plugins.attacks.classifiers import Constant

from advbench.api import Budget, Goal, ParameterError, SampleRandom
from advbench_attacks.black_box.rays import RayS
from advbench_attacks.black_box.rays_search import TOLERANCE

COUNT = 40
VALUES = 16


class TwoClasses(torch.nn.Module):
    """A linear classifier of 4×4 images with two classes, whose boundaries are far from the bounds of [0, 1]."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.randn(VALUES, generator=torch.Generator().manual_seed(4))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        score = (images.flatten(1) - 0.5) @ self.weight
        return torch.eye(2)[(score > 0).long()]

    def samples(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Images around grey, with their classes and the L∞ distances of the boundary."""
        images = 0.5 + 0.1 * torch.randn(COUNT, 1, 4, 4, generator=torch.Generator().manual_seed(5))
        distances = ((images.flatten(1) - 0.5) @ self.weight).abs() / self.weight.abs().sum()
        return images.clamp(0, 1), distances


def run(attack: RayS, model: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    rng = SampleRandom(0, "test", range(len(images)))
    return attack.craft(model, images, Goal(labels), rng, None)


def linf(perturbations: torch.Tensor) -> torch.Tensor:
    return perturbations.abs().flatten(1).amax(dim=1)


def test_on_a_linear_model_it_finds_the_nearest_boundary() -> None:
    model = TwoClasses()
    images, distances = model.samples()
    labels = model(images).argmax(dim=1)
    crafted = run(RayS(), model, images, labels)
    assert (model(crafted).argmax(dim=1) != labels).all()
    assert (linf(crafted - images) >= distances - 1e-6).all()
    # A flip that shortens the radius by less than the tolerance of the bisection is not kept.
    assert (linf(crafted - images) <= 1.02 * distances + 2 * TOLERANCE / VALUES**0.5).all()


def test_more_queries_come_nearer(network, many) -> None:
    images, labels = many
    medians = []
    for queries in (50, 200, 1000, 5000):
        crafted = run(RayS(queries=queries), network, images, labels)
        assert ((network(crafted).argmax(dim=1) != labels) == (crafted != images).flatten(1).any(dim=1)).all()
        medians.append(linf(crafted - images).median())
    assert medians == sorted(medians, reverse=True)
    assert medians[-1] < medians[0] / 2


def test_with_eps_it_ends_within_eps(network, many) -> None:
    images, labels = many
    smallest = linf(run(RayS(queries=2000), network, images, labels) - images)
    eps = float(smallest.median())
    attack = RayS(eps, queries=2000)
    assert attack.budget() == Budget("linf", eps)
    counting = Counting(network, len(images))
    crafted = run(attack, counting, images, labels)
    wrong = network(crafted).argmax(dim=1) != labels
    assert (linf(crafted - images) <= eps + 1e-6).all()
    assert torch.equal(wrong, smallest <= eps)
    spent = torch.tensor([counting.asked[row] for row in range(len(images))])
    assert spent[wrong].float().mean() < spent[~wrong].float().mean() / 2
    beyond = linf(crafted - images)[~wrong]
    assert beyond == pytest.approx(torch.full_like(beyond, eps), abs=1e-6), "in the best direction"


class Counting(torch.nn.Module):
    """Counts the queries of each sample."""

    def __init__(self, network: torch.nn.Module, samples: int) -> None:
        super().__init__()
        self.network, self.rows, self.asked = network, range(samples), Counter[int]()

    def for_rows(self, rows: torch.Tensor) -> Counting:
        part = Counting(self.network, 0)
        part.rows, part.asked = rows.tolist(), self.asked
        return part

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.asked.update(self.rows)
        return self.network(images)


@pytest.mark.parametrize("queries", [1, 2, 3, 57])
def test_a_sample_has_so_many_queries(queries: int, network, many) -> None:
    images, labels = many
    counting = Counting(network, len(images))
    run(RayS(queries=queries), counting, images, labels)
    assert max(counting.asked.values()) == queries
    assert counting.asked.total() == queries * len(images)


def test_a_sample_ends_when_no_flip_of_a_single_value_helps() -> None:
    model = TwoClasses()
    images, _ = model.samples()
    labels = model(images).argmax(dim=1)
    counting = Counting(model, COUNT)
    run(RayS(), counting, images, labels)
    assert max(counting.asked.values()) < 1000


@pytest.mark.parametrize("attack", [RayS(queries=300), RayS(0.05, queries=300)], ids=str)
def test_a_samples_result_does_not_depend_on_its_batch(attack: RayS, network, many) -> None:
    images, labels = many[0][:12], many[1][:12]
    whole = run(attack, network, images, labels)
    parts = [run(attack, network, images[rows], labels[rows]) for rows in torch.arange(12).split([1, 4, 7])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-5, rtol=0)


def test_clean_images_are_returned_where_it_fails_or_has_nothing_to_do(network, images, labels) -> None:
    assert torch.equal(run(RayS(queries=100), Constant().eval(), images, torch.zeros(6, dtype=torch.int64)), images)
    wrong = torch.tensor([False, True, False, False, True, False])
    crafted = run(RayS(queries=100), network, images, torch.where(wrong, (labels + 1) % 10, labels))
    assert torch.equal(crafted[wrong], images[wrong])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"eps": "-0.1"}, "eps=-0.1: .*at least 0"),
        ({"queries": "0"}, "queries=0: .*at least 1"),
        ({"goal": "3"}, "goal=3: its first directions hardly ever lead to a given class; use square:goal=3"),
    ],
)
def test_bad_parameters_are_refused(parameters: dict[str, str], message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        RayS(**RayS.parse(parameters))


def test_without_eps_it_is_minimal() -> None:
    assert RayS().budget() is None
    assert RayS().minimized_norm() == "linf"
    assert RayS.parse({"eps": "none"})["eps"] is None
