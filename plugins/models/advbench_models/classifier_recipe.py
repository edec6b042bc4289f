"""What recipes of classifiers share: their datasets, the sidecar's entries, and the files that they write."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from torch import nn

from advbench.api import DataError, LabelledImages, TrainingJob, save_weights
from advbench_models.classifier_training import ClassifierTraining, behind_defense, build_seeded

__all__ = ["ClassifierData", "DatasetSpecs", "Prepare", "train_by_recipe"]


@dataclasses.dataclass(frozen=True)
class DatasetSpecs:
    """The datasets of a recipe, as specs.

    Attributes:
        training_set: What is learned.
        test_set: What the accuracy is measured on.
        whole: The number of images of the whole training set.
        held_out: A dataset whose images are left out of the training set, or None.
    """

    training_set: str
    test_set: str
    whole: int
    held_out: str | None = None

    @property
    def learned(self) -> str:
        """What is learned, for the sidecar."""
        return self.training_set + (f" without the images of {self.held_out}" if self.held_out else "")

    def load_training_set(self, job: TrainingJob) -> LabelledImages:
        """Loads the images to learn.

        Raises:
            DataError: The training set does not hold the images to be held out.
        """
        training_set = job.load_dataset(self.training_set)
        if self.held_out is None:
            return training_set
        return self.without_held_out(training_set, job.load_dataset(self.held_out))

    def without_held_out(self, training_set: LabelledImages, held_out: LabelledImages) -> LabelledImages:
        """The training set without the images that are also held out, found by their pixels.

        Raises:
            DataError: The whole training set does not hold every held-out image exactly once.
        """
        kept = training_set.without(held_out)
        removed = len(training_set) - len(kept)
        if len(training_set) == self.whole and removed != len(held_out):
            raise DataError(
                f"{removed} images of {self.training_set} are in {self.held_out}, which has {len(held_out)}: "
                "the two do not belong together; run 'advbench doctor'"
            )
        return kept


class ClassifierData(NamedTuple):
    """What a network learns, and what its accuracy is measured on."""

    training_set: LabelledImages
    test_set: LabelledImages


Prepare = Callable[[nn.Module, Mapping[str, Any], ClassifierData], ClassifierTraining]
"""Makes the training of a network, given the recipe's description and the data; the network is on the job's device."""


def train_by_recipe(
    name: str,
    build: Callable[[], nn.Module],
    job: TrainingJob,
    specs: DatasetSpecs,
    *,
    settings: Mapping[str, Any],
    prepare: Prepare,
    describe: Callable[[Mapping[str, float]], Mapping[str, Any]] | None = None,
    eight_bit: Collection[str] = (),
) -> Mapping[str, Any]:
    """Trains a classifier and writes its weights, their sidecar and, while it lasts, a checkpoint.

    On the CPU, the same seed, data and number of threads give the same weights, whether or not the training
    was interrupted.

    Args:
        name: The component that is trained.
        build: Makes the network; its initial weights are drawn from torch's own generator.
        job: What the command line asks for.
        specs: The datasets.
        settings: What distinguishes the recipe, for the sidecar, with its ``epochs`` and ``batch_size``.
        prepare: Makes the training.
        describe: What the sidecar says of the figures of the last evaluation, beside the accuracy.
        eight_bit: Names of the tensors to store in 8 bits; the figures are then those of the network as stored.

    Returns:
        What the sidecar says; ``test_accuracy`` is that on the whole test set.

    Raises:
        DataError: The training set does not hold the images to be held out.
        UsageError: The checkpoint belongs to another recipe, seed or data.
    """
    training_set = specs.load_training_set(job)
    recipe: dict[str, Any] = {"component": name, "recipe": job.recipe, **settings}
    if job.epochs is not None:
        recipe["epochs"] = job.epochs
    data = ClassifierData(job.defend(training_set), job.defend(job.load_dataset(specs.test_set)))
    recipe |= {"seed": job.seed, "data_digest": training_set.digest(), **behind_defense(job, data.training_set)}
    training = prepare(build_seeded(build, job), recipe, data)
    figures = training.run()
    if eight_bit:
        figures = {**figures, **training.round_to_8_bits(eight_bit)}
    provenance = {
        **training.provenance(),
        "training_set": specs.learned,
        "training_samples": len(training_set),
        "test_set": specs.test_set,
        "test_accuracy": figures["accuracy"],
        **({} if describe is None else describe(figures)),
    }
    digest = save_weights(job.output, training.network.state_dict(), provenance, eight_bit=eight_bit)
    job.checkpoint.unlink(missing_ok=True)
    return {"sha256": digest, **provenance}
