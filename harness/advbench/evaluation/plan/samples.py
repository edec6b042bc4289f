"""Which samples of a dataset a run evaluates, and to which its components are fitted."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import numpy as np
import numpy.typing as npt

from advbench.api import Attack, Dataset, Defense, artefact_file_of
from advbench.errors import UsageError, describe
from advbench.evaluation.plan.cells import Axes, full, short
from advbench.option_names import option
from advbench.specs import transforms_images

__all__ = [
    "FitSplit",
    "fit_form",
    "fit_split",
    "is_fitted",
    "is_fitted_part",
    "pick_ids",
    "reads_artefact",
    "unfitted_part",
]


def pick_ids(dataset: Dataset, limit: int | None, seed: int) -> tuple[int, ...]:
    """A reproducible random subset of the sample ids, ascending; a smaller limit gives a subset of a larger limit's."""
    ids = _sample_ids(dataset)
    if limit is None or limit >= len(ids):
        return tuple(ids.tolist())
    return tuple(np.sort(ids[_order(dataset, len(ids), seed)[:limit]]).tolist())


@dataclasses.dataclass(frozen=True)
class FitSplit:
    """The images to which components are fitted.

    Attributes:
        dataset: Their dataset: that of the run, or another one.
        ids: Their ids in it, ascending.
    """

    dataset: Dataset
    ids: tuple[int, ...]


def is_fitted(attack: Attack) -> bool:
    """Whether an attack is fitted to data, and does not take its artefact from a file."""
    return attack.has_fit and artefact_file_of(attack) is None


def is_fitted_part(part: Defense) -> bool:
    """Whether a defense is fitted to data, and does not take its artefact from a file.

    Only one that classifies can use what it has fitted.
    """
    return _uses_artefact(part) and artefact_file_of(part) is None


def reads_artefact(part: Defense) -> bool:
    """Whether a defense takes what others fit from a file."""
    return _uses_artefact(part) and artefact_file_of(part) is not None


def _uses_artefact(part: Defense) -> bool:
    return type(part).fit is not Defense.fit and not transforms_images(part)


def unfitted_part(part: Defense) -> Defense:
    """A defense without its file, with the parameters of other stages than the fit at their defaults."""
    parameters = [one for one in part.parameters() if one.artefact_file or (one.stage and not one.required)]
    unused = {one.name: one.default for one in parameters}
    values = {name: getattr(part, name) for name in unused}
    return part if values == unused else dataclasses.replace(part, **unused)


def fit_form(attack: Attack) -> Attack:
    """The attack that is fitted for an attack: with the parameters of other stages than the fit at their defaults."""
    values = attack.values()
    staged = {one.name: one.default for one in attack.parameters() if one.stage and not one.required}
    return attack if staged.items() <= values.items() else type(attack).from_values({**values, **staged})


def fit_split(axes: Axes, dataset: Dataset, ids: tuple[int, ...], component: str) -> FitSplit:
    """The images to which the components of a run are fitted on one of its datasets.

    They are the last of the order of which the run's samples are the first.

    Args:
        axes: The axes of the run.
        dataset: One of their datasets.
        ids: The run's samples of it.
        component: What messages call a component that is fitted, such as ``attack 'patch'``.

    Raises:
        UsageError: There are no such images, some of them are samples of the run, or their form is another.
    """
    source = dataset if axes.fit_data is None else axes.fit_data
    _check_form(source, dataset, component)
    known = _sample_ids(source)
    chosen = np.sort(known[_order(source, len(known), axes.seed)[-axes.fit_samples :]])
    if full(source) == full(dataset):
        shared = int(np.isin(chosen, np.asarray(ids)).sum())
        if shared:
            which = f"{shared:,} of the {len(chosen):,} samples of {short(dataset)} for fits"
            if len(ids) == len(known):
                which = f"all {len(known):,} samples of {short(dataset)}"
            raise UsageError(
                f"{component} is fitted to images that the run does not evaluate, and {which} are in the run; give "
                f"{_fewer(len(known), len(ids), axes.fit_samples)}, or other images with {option('fit_data', 'SPEC')}"
            )
    return FitSplit(source, tuple(chosen.tolist()))


def _fewer(known: int, used: int, fit_samples: int) -> str:
    """Options with which so many samples suffice for a run that uses some of them, and for its fits."""
    advice = [option("limit", known - fit_samples)] if known > fit_samples else []
    advice += [option("fit_samples", known - used)] if known > used else []
    return " or ".join(advice) or f"{option('limit')} and {option('fit_samples')} of together at most {known}"


def _check_form(source: Dataset, dataset: Dataset, component: str) -> None:
    """Checks that images for fits have the shape and the classes of those that the run evaluates."""
    for what, own, other in (
        ("images of shape", source.image_shape, dataset.image_shape),
        ("classes:", source.num_classes, dataset.num_classes),
    ):
        if own != other:
            raise UsageError(
                f"{option('fit_data', short(source))}: has {what} {own}, and {short(dataset)}, to which "
                f"{component} is applied, has {what} {other}; give a dataset of the same form"
            )


def _sample_ids(dataset: Dataset) -> npt.NDArray[np.int64]:
    """All sample ids of a dataset.

    Raises:
        UsageError: It cannot list them, or has none.
    """
    try:
        ids = np.asarray(dataset.ids(), dtype=np.int64)
    except (KeyboardInterrupt, UsageError):
        raise
    except BaseException as error:
        raise UsageError(f"dataset {dataset.name!r} cannot list its sample ids: {describe(error)}") from error
    if not len(ids):
        raise UsageError(f"dataset {dataset.name!r} has no samples; pick another")
    return ids


def _order(dataset: Dataset, count: int, seed: int) -> npt.NDArray[Any]:
    """The positions of a dataset's samples in the order of a seed."""
    key = hashlib.sha256(f"{seed}\0subset\0{dataset.name}".encode()).digest()[:16]
    order = np.random.Generator(np.random.Philox(key=np.frombuffer(key, dtype="<u8"))).random(count)
    return np.argsort(order, kind="stable")
