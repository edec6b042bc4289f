"""Graphs of several draws: as many kept as there is room for, and the same numbers however many that are."""

from __future__ import annotations

import pytest
import torch

from advbench.evaluation.work.attacked.eot_graphs import EOTGraphs


@pytest.fixture
def network() -> torch.nn.Module:
    torch.manual_seed(2)
    layers = torch.nn.Sequential(torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(144, 5))
    return layers.eval().requires_grad_(False)


@pytest.fixture
def draws() -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(6, 1, 8, 8, generator=generator) for _ in range(4)]


def gradients(graphs: EOTGraphs, draws: list[torch.Tensor]) -> tuple[torch.Tensor, int]:
    """The gradient with respect to the draws, and how often the network ran for it."""
    ran = []
    handle = graphs.network.register_forward_pre_hook(lambda *_: ran.append(1))
    points = torch.stack(draws).requires_grad_()
    total = sum(graphs.logits(one, number * len(one)) for number, one in enumerate(points))
    (gradient,) = torch.autograd.grad(total.square().sum(), points)
    handle.remove()
    return gradient, len(ran)


# A graph of the six images holds what the ReLU gives and what goes into the convolution: floats of 4 bytes.
GRAPH = 6 * (4 * 6 * 6 + 8 * 8) * 4


@pytest.mark.parametrize(
    ("limit", "runs"), [(0, 7), (2 * GRAPH, 6), (3 * GRAPH, 5), (4 * GRAPH, 4), (2**29, 4)], ids=str
)
def test_as_many_graphs_are_kept_as_there_is_room_for(limit, runs, network, draws):
    expected, _ = gradients(EOTGraphs(network, 2**40), draws)
    gradient, ran = gradients(EOTGraphs(network, limit), draws)
    assert ran == runs
    assert torch.equal(gradient, expected)


def test_a_batch_of_another_size_has_room_for_more_or_fewer(network, draws):
    graphs = EOTGraphs(network, 2 * GRAPH)
    assert gradients(graphs, draws)[1] == 6
    assert gradients(graphs, [one[:3] for one in draws])[1] == 4
    assert gradients(graphs, [torch.cat((one, one)) for one in draws])[1] == 7


def test_nothing_is_kept_where_no_gradient_is_asked_for(network, draws):
    graphs = EOTGraphs(network, 0)
    with torch.no_grad():
        logits = [graphs.logits(one, 6 * number) for number, one in enumerate(draws)]
    assert all(torch.equal(one, network(draw)) for one, draw in zip(logits, draws, strict=True))
    assert gradients(graphs, draws)[1] == 7


def test_few_draws_go_together_once_it_is_known_what_they_take(network, draws):
    graphs = EOTGraphs(network, 8 * GRAPH)
    assert graphs.draws_per_batch(6, 4) == 1
    gradients(graphs, draws)
    assert [graphs.draws_per_batch(samples, 4) for samples in (1, 3, 6, 7, 12, 100)] == [4, 4, 2, 1, 1, 1]
    assert EOTGraphs(network, 2**40).draws_per_batch(6, 4) == 1
    roomy = EOTGraphs(network, 2**40)
    gradients(roomy, draws)
    assert [roomy.draws_per_batch(samples, 20) for samples in (1, 32, 160, 400)] == [20, 10, 2, 1]
