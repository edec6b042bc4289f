"""The network and labelled images of a benchmark, loaded and drawn as advbench does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch

from advbench.api import Dataset, DataSources, Model
from advbench.discovery.loading import discover
from advbench.errors import UsageError
from advbench.evaluation.plan.compatibility import incompatibility
from advbench.evaluation.plan.samples import pick_ids
from advbench.evaluation.work.workspace import pick_device
from advbench.specs import resolve_one

__all__ = ["Samples", "load_images", "load_samples"]


@dataclass(frozen=True)
class Samples:
    """A network in eval mode, images and labels on its device, and the samples' ids for their random streams."""

    network: torch.nn.Module
    images: torch.Tensor
    labels: torch.Tensor
    ids: tuple[int, ...]

    def first(self, count: int) -> Samples:
        """Returns the first samples."""
        return Samples(self.network, self.images[:count], self.labels[:count], self.ids[:count])


def load_samples(model: str, dataset: str, limit: int, *, seed: int, device: str, data_dir: Path | None) -> Samples:
    """Loads the samples that specs name.

    Raises:
        UsageError: There is no such model, dataset or device, it cannot be loaded, or the model does not take the
            dataset's images.
    """
    torch_device = torch.device(pick_device(device))
    component, data = resolve_one(discover(), "models", model), resolve_one(discover(), "datasets", dataset)
    assert isinstance(component, Model)
    assert isinstance(data, Dataset)
    if reason := incompatibility(data, component):
        raise UsageError(reason)
    images, labels, ids = load_images(dataset, limit, seed=seed, data_dir=data_dir)
    network = component.load().to(torch_device).eval().requires_grad_(False)
    return Samples(network, images.to(torch_device), labels.to(torch_device), ids)


def load_images(
    dataset: str, limit: int, *, seed: int, data_dir: Path | None
) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]:
    """Returns random images of a dataset, their labels and ids; all images if there are fewer than ``limit``."""
    component = resolve_one(discover(), "datasets", dataset)
    assert isinstance(component, Dataset)
    ids = pick_ids(component, limit, seed)
    sources = DataSources(Path(platformdirs.user_cache_dir("advbench")), data_dir)
    images, labels = component.load(sources).take(ids)
    return images, labels, ids
