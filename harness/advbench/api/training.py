"""The contract of components that ``advbench train`` can train, and checkpoints that resume exactly."""

from __future__ import annotations

import dataclasses
import json
from abc import abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from advbench.api.dataset import LabelledImages
from advbench.api.files import replace_atomically
from advbench.errors import UsageError

if TYPE_CHECKING:
    import torch

__all__ = [
    "Trainable",
    "TrainingJob",
    "TrainingProgress",
    "load_checkpoint",
    "save_checkpoint",
]


@dataclasses.dataclass(frozen=True)
class TrainingProgress:
    """How far a training is.

    Attributes:
        step: Batches done, over all epochs.
        steps: Batches in all.
        epoch: The epoch under way, from 1.
        epochs: Epochs in all.
        figures: What to show beside the bar, such as ``{"loss": 0.07, "accuracy": 0.98}``.
    """

    step: int
    steps: int
    epoch: int
    epochs: int
    figures: Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class TrainingJob:
    """One training as the command line asks for it.

    Attributes:
        output: The ``.safetensors`` file to write; the sidecar and the checkpoint stand beside it.
        load_dataset: Reads a dataset by its spec, such as ``mnist:split=train``. Recipes get their data through it,
            so that a plugin of models needs no other plugin's code; raises a UsageError where it cannot be had.
        load_model: Builds a model by its spec, such as ``mnist-cnn``, ready to classify on the device; for recipes that
            report what a classifier makes of their images. Raises a UsageError where it cannot be had.
        device: Where to compute.
        seed: Seed of the initial weights and of the order of the samples.
        epochs: Number of epochs, or None for the recipe's own.
        recipe: Which of the component's :attr:`Trainable.recipes`.
        dataset: Which of the component's :attr:`Trainable.training_sets`.
        report: Called after every few batches.
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

    @property
    def checkpoint(self) -> Path:
        """Where the interrupted training is kept; removed when it has ended."""
        return self.output.with_suffix(".checkpoint")


class Trainable:
    """A model or defense that ``advbench train`` can train.

    Attributes:
        recipes: Names of the recipes (``--recipe``) with one line on each; the first is the default.
        training_sets: Names of the datasets that it can be trained on (``--dataset``); where there are several,
            the user must choose.
    """

    recipes: ClassVar[Mapping[str, str]]
    training_sets: ClassVar[tuple[str, ...]]

    def weights_name(self, dataset: str) -> str:
        """What a weights file is called where the user does not say, without its suffix."""
        del dataset
        return str(getattr(self, "name", type(self).__name__))

    @abstractmethod
    def train(self, job: TrainingJob) -> Mapping[str, Any]:
        """Trains by the component's recipe and writes weights and sidecar.

        An interrupted training with the same recipe, seed and data goes on from ``job.checkpoint`` and ends with
        the weights that it would have had without the interruption.

        Returns:
            What the sidecar says.

        Raises:
            UsageError: ``job.checkpoint`` belongs to another recipe, seed or data.
        """


def save_checkpoint(path: Path, tensors: Mapping[str, torch.Tensor], state: Mapping[str, Any]) -> None:
    """Writes a checkpoint atomically, so that an interruption or a full disk leaves the one before.

    Args:
        path: The checkpoint file.
        tensors: Weights and optimiser state under names of the recipe's choosing.
        state: JSON-able rest; what is under ``"recipe"`` must be the same when the training is resumed.

    Raises:
        UsageError: It cannot be written.
    """
    cpu = {key: value.detach().cpu().contiguous() for key, value in tensors.items()}
    try:
        with replace_atomically(path) as temporary:
            save_file(cpu, temporary, metadata={"state": json.dumps(dict(state))})
    except (OSError, SafetensorError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else error
        kept = "the one before it is whole" if path.exists() else "there is none before it"
        raise UsageError(
            f"checkpoint {path} cannot be written ({reason}); {kept}: mend that and give the same command again"
        ) from error


def load_checkpoint(path: Path, recipe: Mapping[str, Any]) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Reads a checkpoint back.

    Args:
        path: The checkpoint file.
        recipe: What the resumed training will do; must equal what the checkpoint's ``state["recipe"]`` says.

    Returns:
        Tensors and state, or None where there is no checkpoint.

    Raises:
        UsageError: It is unreadable, or belongs to another recipe.
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
        different = [key for key in sorted(was.keys() | now.keys()) if was.get(key) != now.get(key)]
        key = different[0]
        raise UsageError(
            f"checkpoint {path} belongs to another training: {key} was {was.get(key)}, now {now.get(key)}; {remedy}"
        )
    return tensors, state
