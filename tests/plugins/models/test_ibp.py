from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from advbench.api import DataSources, SampleRandom
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_datasets.mnist_5k import Mnist5k
from advbench_models.ibp import IntervalBounds
from advbench_models.interval_bounds import margins_within, worst_logits

pytestmark = pytest.mark.slow


def small() -> list[nn.Module]:
    """A network of a convolution and two linear layers for images of 1×6×6, in float64."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        layers = [nn.Conv2d(1, 3, 3, stride=2, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(27, 8), nn.ReLU()]
        return [layer.double() for layer in [*layers, nn.Linear(8, 4)]]


def test_no_point_of_the_box_is_worse_than_the_bounds() -> None:
    layers = small()
    generator = torch.Generator().manual_seed(1)
    images = torch.rand(5, 1, 6, 6, generator=generator, dtype=torch.float64)
    labels = torch.arange(5) % 4
    bounds = worst_logits(layers, images, labels, 0.1)
    assert torch.equal(bounds.gather(1, labels[:, None]), torch.zeros(5, 1, dtype=torch.float64))
    for _ in range(200):
        corners = 0.1 * torch.where(torch.rand(images.shape, generator=generator) < 0.5, -1.0, 1.0)
        logits = nn.Sequential(*layers)((images + corners).clamp(0, 1))
        assert (logits - logits.gather(1, labels[:, None]) <= bounds + 1e-12).all()


def test_with_radius_0_the_bounds_are_the_logits() -> None:
    layers = small()
    images = torch.rand(5, 1, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    logits = nn.Sequential(*layers)(images)
    labels = logits.argmax(dim=1)
    leads = logits.topk(2, dim=1).values
    torch.testing.assert_close(margins_within(layers, images, labels, 0.0), leads[:, 0] - leads[:, 1])


def test_of_one_linear_layer_the_bound_is_exact_and_the_box_ends_at_0_and_1() -> None:
    layer = nn.Linear(4, 2).double()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 0.0, 3.0], [0.0, 1.0, 0.0, 0.0]]))
        layer.bias.zero_()
    image = torch.tensor([0.5, 0.95, 0.2, 0.1], dtype=torch.float64).reshape(1, 1, 2, 2)
    # Logit 0 minus logit 1 is x0 − 3 x1 + 3 x3; x1 has only 0.05 up to 1, and x3 only 0.1 up from 0.
    margin = margins_within([nn.Flatten(), layer], image, torch.tensor([0]), 0.2).detach()
    assert float(margin) == pytest.approx((0.5 - 0.2) - 3 * 1.0 + 3 * 0.0)


def test_layers_without_bounds_are_refused() -> None:
    with pytest.raises(TypeError, match="layers of type Tanh"):
        worst_logits([nn.Flatten(), nn.Tanh(), nn.Linear(4, 2)], torch.rand(1, 1, 2, 2), torch.tensor([0]), 0.1)


def test_certificates_hold_against_pgd_and_cannot_be_much_larger(tmp_path_factory: pytest.TempPathFactory) -> None:
    images, labels = Mnist5k().load(DataSources(tmp_path_factory.mktemp("cache"), download=False)).take(range(200))
    model = IntervalBounds()
    network = model.load().eval().requires_grad_(False)
    classes, radii = model.certify(network, images, SampleRandom(0, "certificate", range(200)))
    right = classes == labels
    assert right.float().mean() > 0.95
    assert (right & (radii >= 0.1)).float().mean() > 0.9
    assert (right & (radii >= 0.3)).float().mean() > 0.6
    for eps in (0.1, 0.2, 0.3):
        attack = ProjectedGradientDescent(eps, steps=20)
        crafted = attack.run(network, images, labels, SampleRandom(0, "attack", range(200)))
        fooled = network(crafted).argmax(dim=1) != labels
        assert not (fooled & right & (radii >= eps)).any()
    assert (radii < 0.5).all()
    assert all(math.isclose(float(radius) * 8192, round(float(radius) * 8192), abs_tol=1e-6) for radius in radii)
