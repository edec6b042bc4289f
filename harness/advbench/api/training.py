"""The contract of components that ``advbench train`` can train, and checkpoints for resuming a training exactly."""

from __future__ import annotations

import dataclasses
import json
import platform
from abc import abstractmethod
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from advbench.api.files import replace_atomically
from advbench.errors import UsageError

if TYPE_CHECKING:
    import torch

    from advbench.api.dataset import LabelledImages

__all__ = [
    "Trainable",
    "TrainingJob",
    "TrainingProgress",
    "load_checkpoint",
    "save_checkpoint",
]


@dataclasses.dataclass(frozen=True)
class TrainingProgress:
    """The progress of a training.

    Attributes:
        step: Batches done, over all epochs.
        steps: Total number of batches.
        epoch: The current epoch, from 1.
        epochs: Total number of epochs.
        figures: Metrics to show beside the progress bar, such as ``{"loss": 0.07, "accuracy": 0.98}``.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    figures: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """One training, as requested on the command line.

    Attributes:
        output: The ``.safetensors`` file to write; the sidecar and the checkpoint are written beside it.
        load_dataset: Loads a dataset by its spec, such as ``mnist:split=train``. Recipes get their data through it,
            so that a plugin of models does not import another plugin. Raises UsageError if it is not available.
        load_model: Builds a model by its spec, such as ``mnist-cnn``, ready to classify on the device; for recipes that
            evaluate their images with a classifier. Raises UsageError if it is not available.
        device: The device to compute on.
        seed: Seed of the initial weights and of the order of the samples.
        epochs: Number of epochs, or None for the recipe's default.
        recipe: One of the component's :attr:`Trainable.recipes`.
        dataset: One of the component's :attr:`Trainable.training_sets`.
        report: Called every few batches.
        defense: Spec of the defense that a classifier is trained behind, or an empty string.
        defend: Replaces images by defended ones; without a defense, returns them unchanged. Recipes of classifiers that
            set :attr:`Trainable.trains_behind_defenses` apply it to the training and the test images.
    """

    output: Path
    load_dataset: Callable[[str], LabelledImages]
    load_model: Callable[[str], torch.nn.Module]
    device: torch.device
    seed: int
    epochs: int | None
    recipe: str
    dataset: str
    report: Callable[[TrainingProgress], None]
    defense: str = ""
    defend: Callable[[LabelledImages], LabelledImages] = lambda images: images

    @property
    def checkpoint(self) -> Path:
        """The file with the state of an interrupted training; removed at the end of the training."""
        return self.output.with_suffix(".checkpoint")

    def provenance(self) -> dict[str, Any]:
        """The sidecar entries common to all recipes: device, threads, versions and date."""
        import torch

        return {
            "device": self.device.type,
            "threads": torch.get_num_threads(),
            "versions": {
                "python": platform.python_version(),
                **{name: metadata.version(name) for name in ("torch", "advbench")},
            },
            "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }


class Trainable:
    """A model or defense that ``advbench train`` can train.

    Attributes:
        recipes: Names of the recipes (``--recipe``), each with a one-line description; the first is the default.
        training_sets: Names of the datasets that it can be trained on (``--dataset``). If there are several,
            users must choose one.
        trains_behind_defenses: Whether :meth:`train` applies :attr:`TrainingJob.defend` to its images
            (``--defense``).
    """

    recipes: ClassVar[Mapping[str, str]]
    training_sets: ClassVar[tuple[str, ...]]
    trains_behind_defenses: ClassVar[bool] = False

    def weights_name(self, dataset: str) -> str:
        """Default name of the weights file, without its suffix."""
        del dataset
        return str(getattr(self, "name", type(self).__name__))

    @abstractmethod
    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains with the chosen recipe and writes the weights and their sidecar.

        An interrupted training with the same recipe, seed and data continues from ``job.checkpoint`` and ends with
        the same weights as without the interruption.

        Returns:
            The content of the sidecar.

        Raises:
            UsageError: ``job.checkpoint`` belongs to another recipe, seed or data.
        """


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Writes a checkpoint atomically. After an interruption or on a full disk, the previous one is still there.

    Args:
        path: The checkpoint file.
        tensors: Weights and optimiser state, under names that the recipe chooses.
        state: Other state, JSON-able. The entry ``"recipe"`` must be the same when the training is resumed.

    Raises:
        UsageError: The checkpoint cannot be written.
    """
    cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        with replace_atomically(path) as temporary:
            save_file(cpu, temporary, metadata={"state": json.dumps(dict(state))})
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        kept = "the previous one is intact" if path.exists() else "there is no earlier one"
        raise UsageError(
            f"checkpoint {path} cannot be written ({reason}); {kept}; fix that and repeat the command"
        ) from error


def load_checkpoint(path: Path, recipe: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Reads a checkpoint.

    Args:
        path: The checkpoint file.
        recipe: The recipe of the resumed training; must equal the checkpoint's ``state["recipe"]``.

    Returns:
        Tensors and state, or None if there is no checkpoint.

    Raises:
        UsageError: The checkpoint is unreadable or belongs to another recipe.
    """
    if not path.exists():
        return None
    remedy = f"remove {path} to train from the beginning"
    try:
        with safe_open(path, framework="pt") as file:
            state = json.loads((file.metadata() or {})["state"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UsageError(f"checkpoint {path} is not readable ({error}); {remedy}") from error
    was, now = state.get("recipe", {}), json.loads(json.dumps(dict(recipe)))
    if was != now:
        different = [key for key in was.keys() | now.keys() if was.get(key) != now.get(key)]
        key = min(different, key=lambda key: (key.endswith("digest"), key))  # a digest says least to a reader
        raise UsageError(
            f"checkpoint {path} belongs to another training: {key} was {was.get(key)}, now {now.get(key)}; {remedy}"
        )
    return tensors, state
