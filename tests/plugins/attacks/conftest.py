"""A small network, images that it classifies, and the random streams of samples."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import pytest
import torch

from advbench.api import SampleRandom
from advbench_attacks.foolbox import engine as foolbox_engine


class Recorder(torch.nn.Module):
    """Notes how many images each call of a network is given."""

    def __init__(self, network: torch.nn.Module) -> None:
        super().__init__()
        self.network = network
        self.batches: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.batches.append(len(images))
        return self.network(images)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Lets torch use one thread: on networks this small, more would only wait for one another."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def network() -> torch.nn.Module:
    """A frozen convolutional network with fixed random weights: images of 1×6×6 to 10 logits."""
    generator = torch.Generator().manual_seed(0)
    layers = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 16, 10)
    )
    with torch.no_grad():
        for parameter in layers.parameters():
            parameter.copy_(torch.empty_like(parameter).uniform_(-0.5, 0.5, generator=generator))
    return layers.eval().requires_grad_(False)


@pytest.fixture
def images() -> torch.Tensor:
    """Six images that reach from 0 to 1."""
    return torch.rand(6, 1, 6, 6, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def labels(network: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
    """The network's own predictions, so that every image is rightly classified."""
    return network(images).argmax(dim=1)


@pytest.fixture
def many(network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """A hundred images and the network's own predictions."""
    images = torch.rand(100, 1, 6, 6, generator=torch.Generator().manual_seed(8))
    return images, network(images).argmax(dim=1)


@pytest.fixture
def streams() -> Callable[..., SampleRandom]:
    """Makes the random streams of some sample ids."""

    def make(ids: Iterable[int], seed: int = 0) -> SampleRandom:
        return SampleRandom(seed, "test", list(ids))

    return make


@pytest.fixture(scope="session")
def foolbox():
    """Foolbox itself, imported without the warnings that its imports cause."""
    return foolbox_engine.load()


@pytest.fixture
def by_hand(foolbox):
    """Runs an attack of Foolbox as its documentation says, and returns the clipped images."""

    def run(attack, network: torch.nn.Module, images: torch.Tensor, labels: torch.Tensor, eps: float | None):
        model = foolbox.PyTorchModel(network, bounds=(0, 1), device="cpu")
        _, clipped, _ = attack(model, images, labels, epsilons=eps)
        return clipped

    return run


@pytest.fixture
def recorded() -> Callable[[torch.nn.Module], Recorder]:
    """Wraps a network so that it notes the size of every batch."""
    return lambda network: Recorder(network).eval()
