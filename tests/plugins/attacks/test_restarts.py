"""PGD from several random starts."""

from __future__ import annotations

import pytest
import torch
from tests.plugins.attacks.classifiers import Noisy

from advbench.api import Goal
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_attacks.gradient.pgd_steps import loss_values

WEAK = {"eps": 0.05, "steps": 2, "step_size": 0.01}


@pytest.mark.parametrize("loss", ["ce", "dlr", "margin"])
def test_each_sample_gets_the_best_of_its_runs(loss, network, many, streams):
    images, labels = many
    rng = streams(range(100))
    one = ProjectedGradientDescent(**WEAK, loss=loss)
    runs = torch.stack([one.run(network, images, labels, rng) for _ in range(4)])  # the streams go on from run to run
    is_adv = torch.stack([network(points).argmax(dim=1) != labels for points in runs])
    values = torch.stack([loss_values(loss, network(points), Goal(labels)) for points in runs])
    best = torch.where(is_adv.any(dim=0), is_adv.int().argmax(dim=0), values.argmax(dim=0))
    several = ProjectedGradientDescent(**WEAK, loss=loss, restarts=4).run(network, images, labels, streams(range(100)))
    torch.testing.assert_close(several, runs[best, torch.arange(100)], atol=1e-6, rtol=0)
    assert len(best.unique()) > 2
    assert is_adv[0].sum() < is_adv.any(dim=0).sum() < 100


def test_a_broken_sample_skips_the_remaining_restarts(network, many, streams, recorded):
    images, labels = many
    recorder = recorded(network)
    ProjectedGradientDescent(**WEAK, restarts=3).run(recorder, images, labels, streams(range(100)))
    steps = [recorder.batches[i : i + 3] for i in (0, 3, 6)]
    assert all(len(set(batches)) == 1 for batches in steps)
    assert steps[0][0] == 100
    assert 100 > steps[1][0] > steps[2][0] > 0


@pytest.mark.parametrize("early_stop", [False, True])
def test_restarts_do_not_depend_on_the_batch(early_stop, network, many, streams):
    attack = ProjectedGradientDescent(**WEAK, restarts=3, early_stop=early_stop)

    def run(rows: torch.Tensor) -> torch.Tensor:
        ids = rows.tolist()
        return attack.run(Noisy(network, streams(ids, 1)), many[0][rows], many[1][rows], streams(ids))

    whole = run(torch.arange(20))
    parts = [run(rows) for rows in torch.arange(20).split([1, 6, 13])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=1e-3, rtol=0)


def test_with_early_stop_points_are_close_to_the_boundary(network, many, streams):
    images, labels = many
    points = {
        early_stop: ProjectedGradientDescent(0.1, restarts=2, early_stop=early_stop).run(
            network, images, labels, streams(range(100))
        )
        for early_stop in (False, True)
    }
    misclassified = network(points[True]).argmax(dim=1) != labels
    assert torch.equal(misclassified, network(points[False]).argmax(dim=1) != labels)
    margins = {key: loss_values("margin", network(value), Goal(labels))[misclassified] for key, value in points.items()}
    assert margins[True].median() < 0.5 * margins[False].median()
