"""Outputs of a component on a few fixed images, and whether two such outputs are the same behaviour.

Outputs show what is in neither the code nor the weights of a component.
"""

from __future__ import annotations

import base64
import dataclasses
import functools
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from advbench.api import Attack, Defense, Model, SampleRandom
from advbench.evaluation.plan.cells import without_certificates
from advbench.evaluation.work.behaviour.attack_observation import run_attack
from advbench.evaluation.work.behaviour.defense_observation import (
    adaptive_views,
    certificate_columns,
    defended,
    predicted,
)
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.evaluation.work.networks import ask_network
from advbench.process.memory import is_out_of_memory
from advbench.specs import transforms_images

__all__ = [
    "SAMPLES",
    "Behaviour",
    "decode_array",
    "defense_function",
    "digest_of_outputs",
    "encode_array",
    "network_function",
    "observe_attack",
    "observe_outputs",
    "outputs_agree",
]

SAMPLES = 8
"""How many of a dataset's images a component is run on, besides as many synthetic ones."""

_TOLERANCE = 1e-3
"""The largest difference from a stored output, as a share of the spread of the stored outputs for the same image."""

_ROUNDING = 1e-5
"""The same as a share of the spread over all images, for images whose outputs hardly differ between classes."""

_CLASS = 4
"""The tolerance within the range of one class is so many times that within the outputs of one image."""

_ULPS = 2
"""The tolerance in units in the last place of a network's own arithmetic, if that is less precise than float32."""

_OWN_ULPS = 8
"""The tolerance of any output in units in the last place of float32, for outputs that are all nearly equal."""

_MASKED = 100
"""Entries of more than so many times the 10 % quantile of an image's entries are taken for masked classes."""

_PROJECTIONS = 32
_SEED = 20261128

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Function = Callable[[torch.Tensor], torch.Tensor]
"""Images of shape (n, channels, height, width) to outputs of shape (n, k)."""


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """What a component returned.

    Attributes:
        outputs: Its outputs, shape (images, k); None if there are none.
        failure: Why there are none; empty otherwise. Keys contain this text.
        error: The exception that it raised, if any.
        randomness: The difference between two passes over the same images, as a share of their spread; 0 if it is no
            more than rounding.
        precision: The unit in the last place of its own arithmetic, if that is less precise than float32; otherwise 0.
        cut_off: The number of queries after which an attack was ended; 0 if it was not.
    """

    outputs: Array | None
    failure: str = ""
    error: BaseException | None = None
    randomness: float = 0.0
    precision: float = 0.0
    cut_off: int = 0


def observe_outputs(
    function: Function, samples: torch.Tensor, precision: float = 0.0, *, synthetic: bool = True
) -> Behaviour:
    """Runs a component twice on images, and also on synthetic ones if it accepts these.

    The global random generators have the same state before each first pass, and are restored afterwards.

    Args:
        function: The component. An exception that it raises becomes a part of its behaviour.
        samples: float32, shape (n, channels, height, width).
        precision: The unit in the last place of its arithmetic.
        synthetic: Whether it is also run on synthetic images.
    """
    devices = [samples.device] if samples.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(_SEED)
        try:
            first, second = (_values(function(samples.clone())) for _ in range(2))
        except Exception as error:
            return Behaviour(None, f"raises {type(error).__name__}", error)
        except SystemExit as error:
            return Behaviour(None, "leaves", error)
        if first is None or second is None:
            return Behaviour(None, "answers by no numbers")
        try:
            more = [_values(function(_synthetic_images(samples))) for _ in range(2)] if synthetic else [None, None]
        except (Exception, SystemExit):  # it may reject images that are in no dataset
            more = [None, None]
    if all(values is not None and values.shape[1:] == first.shape[1:] for values in more):
        first, second = (np.concatenate([values, other]) for values, other in zip((first, second), more, strict=True))
    if first.shape == second.shape and outputs_agree(first, second, precision):
        return Behaviour(first, precision=precision)
    return Behaviour(first, randomness=_relative_difference(first, second))


def network_function(model: Model, network: torch.nn.Module, batch_size: int) -> tuple[Function, float]:
    """A model's network as a function, and the unit in the last place of its own arithmetic; 0 for float32 and float64.

    If the model certifies, the outputs contain a certificate.
    """

    def function(images: torch.Tensor) -> torch.Tensor:
        rng = SampleRandom(_SEED, "behaviour", range(len(images)), images.device)
        parts = torch.split(torch.arange(len(images)), max(1, batch_size))
        return torch.cat([_as_float32(ask_network(network, images[part], rng[part])) for part in parts])

    def certifying(images: torch.Tensor) -> torch.Tensor:
        logits = function(images)
        if logits.ndim < 2:
            return logits
        rng = SampleRandom(_SEED, "behaviour", range(len(images)), images.device)
        certify = functools.partial(without_certificates(model).certify, network)
        return torch.cat((logits, _or_failure(lambda: certificate_columns(certify, images, rng), len(images))), dim=1)

    tensors = (*network.parameters(), *network.buffers())
    units = [torch.finfo(tensor.dtype).eps for tensor in tensors if tensor.dtype.is_floating_point]
    precision = max([unit for unit in units if unit > torch.finfo(torch.float32).eps], default=0.0)
    return (function if model.certified_norm is None else certifying), precision


def defense_function(defense: Defense) -> Function:
    """A defense as a function: what it does when it predicts, under adaptive attacks, and when it certifies.

    Images and gradients are a few fixed sums of pixels. If it classifies, its logits are those around a classifier that
    is the same in every process.
    """
    plain = without_certificates(defense)  # the parameters of certificates are no part of the key

    def streams(images: torch.Tensor) -> SampleRandom:
        return SampleRandom(_SEED, "behaviour", range(len(images)), images.device)

    def function(images: torch.Tensor) -> torch.Tensor:
        passed = defended(plain, images, streams(images))
        if transforms_images(plain):
            forward = _projections(plain.apply(images, streams(images)))
        else:
            forward = predicted(passed, images, streams(images)).cpu()
        if forward.ndim < 2:  # no images: its cells report that
            return forward
        columns = [forward, _or_failure(lambda: _adaptive(passed, images, streams(images)), len(images))]
        if plain.certified_norm is not None:
            certificates = lambda: certificate_columns(passed.certify, images, streams(images))  # noqa: E731
            columns.append(_or_failure(certificates, len(images)))
        return torch.cat(columns, dim=1)

    return function


def _adaptive(passed: ChainPass, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
    seen = adaptive_views(passed, images, rng)
    return torch.cat([torch.cat((logits.cpu(), _projections(gradient)), dim=1) for logits, gradient in seen], dim=1)


def _or_failure(observed: Callable[[], torch.Tensor], count: int) -> torch.Tensor:
    """Outputs, or a constant if the component fails where a run may not need it; its cells report the failure."""
    try:
        return observed()
    except Exception as error:
        if is_out_of_memory(error):
            raise
        return torch.full((count, 1), -1.0)


def observe_attack(attack: Attack, images: torch.Tensor, classes: int) -> Behaviour:
    """Runs an attack twice on images; its outputs are a few fixed sums of pixels of each of its images.

    It attacks a plain classifier, and one that declares what those behind defenses declare. Of an attack that is ended
    since it queries the classifier too often, the outputs are sums of all queried points.
    """
    ended: list[int] = []

    def attacked(images: torch.Tensor, *, defended: bool) -> torch.Tensor:
        found = run_attack(attack, images, classes, defended=defended)
        if isinstance(found, torch.Tensor):
            return _projections(found)
        ended.append(found.calls)
        return _projections(found.sums)

    def function(images: torch.Tensor) -> torch.Tensor:
        plain = attacked(images, defended=False)
        behind = _or_failure(lambda: attacked(images, defended=True), len(images))
        return plain if plain.ndim < 2 or behind.ndim < 2 else torch.cat((plain, behind), dim=1)

    behaviour = observe_outputs(function, images, synthetic=False)
    return dataclasses.replace(behaviour, cut_off=max(ended, default=0))


def _projections(images: Any) -> torch.Tensor:
    """A few fixed sums of each image's pixels; a scalar if these are no images, which the component's cells report."""
    values = _as_float32(images)
    if not values.ndim:
        return values
    flat = values.flatten(1)
    generator = torch.Generator().manual_seed(_SEED)
    signs = torch.randint(0, 2, (flat.shape[1], _PROJECTIONS), generator=generator).float() * 2 - 1
    return flat @ signs


def _as_float32(output: Any) -> torch.Tensor:
    """An output as float32 on the processor; a scalar if it is not a tensor with a row for each image."""
    if not isinstance(output, torch.Tensor) or output.ndim < 2 or output.is_complex():
        return torch.zeros(())
    return output.detach().to("cpu", torch.float32)


def _values(output: torch.Tensor) -> Array | None:
    return None if output.ndim < 2 else np.asarray(output.flatten(1).numpy(), dtype=np.float32)


def outputs_agree(stored: Array, new: Array, precision: float = 0.0) -> bool:
    """Whether outputs equal stored ones, within a tolerance for other threads, machines and devices.

    The tolerance is 1e-3 of the spread of the stored outputs for the same image, or what the network's own arithmetic
    allows; and at most 4e-3 of the range of the stored outputs for the same class.
    """
    if stored.shape != new.shape or stored.size == 0:
        return stored.shape == new.shape
    finite = np.isfinite(stored)
    if not np.array_equal(stored[~finite], new[~finite], equal_nan=True) or not np.isfinite(new[finite]).all():
        return False
    known = np.where(finite, stored, np.nan).astype(np.float64)
    if not finite.any():
        return True
    low, high = (np.where(finite, known, filler) for filler in (np.inf, -np.inf))
    spread = np.maximum(high.max(axis=1) - low.min(axis=1), 0.0)
    whole = float(high.max() - low.min())
    allowed = np.maximum(max(_TOLERANCE, _ULPS * precision) * spread, _ROUNDING * whole)
    allowed = np.maximum(allowed, _ULPS * precision * float(np.nanmax(np.abs(known))))
    size = np.where(finite, np.abs(known), 0.0)
    allowed = np.minimum(allowed[:, None], _limit(low, high, size, precision))
    allowed = np.maximum(allowed, _OWN_ULPS * float(np.finfo(np.float32).eps) * np.maximum(size, _usual_size(size)))
    with np.errstate(invalid="ignore"):
        difference = np.where(finite, np.abs(new.astype(np.float64) - known), 0.0)
    return bool((difference <= allowed).all())


def _usual_size(size: Doubles) -> Doubles:
    """The usual absolute value of each image's entries, shape (images, 1), without those of masked classes (-1e9).

    An entry near 0 may be the difference of terms of this size, and is rounded as they are.
    """
    largest = _MASKED * np.quantile(size, 0.1, axis=1, keepdims=True)
    unmasked = np.where(size <= largest, size, np.nan)
    usual: Doubles = np.nanmedian(unmasked, axis=1, keepdims=True)  # the smallest entry is always among them
    return usual


def _limit(low: Doubles, high: Doubles, size: Doubles, precision: float) -> Doubles:
    """The tolerance of each entry by the range of its own class, so that a masked class (-1e9) widens no other.

    For a class whose outputs hardly differ, the rounding of sums as large as those of a usual class is added.

    Args:
        low: The outputs, shape (images, k); infinite if not finite.
        high: The same; minus infinite if not finite.
        size: Their absolute values; 0 if not finite.
        precision: The unit in the last place of the network's arithmetic.
    """
    of_class = np.maximum(high.max(axis=0) - low.min(axis=0), 0.0)
    differ = of_class[of_class > 0]
    usual = float(np.median(differ)) if differ.size else 0.0
    rounding = max(_ROUNDING, _ULPS * precision)
    limit: Doubles = np.maximum(_CLASS * max(_TOLERANCE, _ULPS * precision) * of_class, rounding * size)
    return np.maximum(limit, rounding * usual)


def _relative_difference(one: Array, other: Array) -> float:
    """The largest difference as a share of the spread; infinite if there is none."""
    if one.shape != other.shape or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    spread = float(one.max() - one.min())
    return float(np.abs(one.astype(np.float64) - other).max()) / spread if spread else float("inf")


def digest_of_outputs(outputs: Array) -> str:
    """SHA-256 of outputs, the id of a behaviour in keys."""
    return hashlib.sha256(f"{outputs.shape}".encode() + outputs.astype("<f4").tobytes()).hexdigest()


def encode_array(array: npt.NDArray[Any]) -> dict[str, Any]:
    """An array as JSON, NaN and infinity included."""
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "content": base64.b64encode(little.tobytes()).decode(),
    }


def decode_array(encoded: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The array that :func:`encode_array` encoded.

    Raises:
        ValueError, TypeError, KeyError: The argument is no encoded array.
    """
    dtype = np.dtype(encoded["dtype"]).newbyteorder("<")
    content = base64.b64decode(encoded["content"], validate=True)
    array = np.frombuffer(content, dtype=dtype).reshape(encoded["shape"])
    native: npt.NDArray[Any] = array.astype(np.dtype(encoded["dtype"]))
    return native


def _synthetic_images(samples: torch.Tensor) -> torch.Tensor:
    """Eight images of the samples' shape that are in no dataset: plain, noise, gradients, blobs and a pattern."""
    _, channels, height, width = samples.shape
    generator = torch.Generator().manual_seed(_SEED)
    noise = torch.rand(3, channels, height, width, generator=generator)
    rows = torch.linspace(0, 1, height)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width)[None, :].expand(height, width)
    blobs = torch.nn.functional.interpolate(noise[2:, :, :4, :4], size=(height, width), mode="nearest")[0]
    pattern = ((torch.arange(height)[:, None] // 2 + torch.arange(width)[None, :] // 2) % 2).float()
    plain = [torch.zeros(channels, height, width), torch.full((channels, height, width), 0.5)]
    drawn = [
        (noise[1] > 0.8).float(),
        blobs,
        *(image.expand(channels, height, width) for image in (rows, columns, pattern)),
    ]
    return torch.stack([*plain, noise[0], *drawn]).to(samples.device)
