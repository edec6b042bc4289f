"""What is attacked and defended: a network and labelled images, as advbench itself loads and draws them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import platformdirs
import torch

from advbench.api import Dataset, DataSources, Model
from advbench.discovery.loading import discover
from advbench.evaluation.plan.build import pick_ids
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
        """The first of these samples."""
        return Samples(self.network, self.images[:count], self.labels[:count], self.ids[:count])


def load_samples(model: str, dataset: str, limit: int, *, seed: int, device: str, data_dir: Path | None) -> Samples:
    """The samples that specs name.

    Raises:
        UsageError: There is no such model, dataset or device, or it cannot be loaded.
    """
    where = torch.device(pick_device(device))
    images, labels, ids = load_images(dataset, limit, seed=seed, data_dir=data_dir)
    found = resolve_one(discover(), "models", model)
    assert isinstance(found, Model)
    network = found.load().to(where).eval().requires_grad_(False)
    return Samples(network, images.to(where), labels.to(where), ids)


def load_images(
    dataset: str, limit: int, *, seed: int, data_dir: Path | None
) -> tuple[torch.Tensor, torch.Tensor, tuple[int, ...]]:
    """Random images of a dataset, their labels and ids; as many as there are where these are fewer."""
    found = resolve_one(discover(), "datasets", dataset)
    assert isinstance(found, Dataset)
    ids = pick_ids(found, limit, seed)
    sources = DataSources(Path(platformdirs.user_cache_dir("advbench")), data_dir)
    images, labels = found.load(sources).take(ids)
    return images, labels, ids
