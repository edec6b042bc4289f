"""What a component answers on a few fixed images: by that one sees what is in neither its code nor its weights."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from advbench.api import Attack, Component, SampleRandom
from advbench.evaluation.work.behaviour.attack_probe import attacked_points

__all__ = [
    "SAMPLES",
    "Behaviour",
    "agree",
    "ask",
    "attack_probe",
    "defense_probe",
    "identify",
    "is_self_contained",
    "network_probe",
    "packed",
    "unpacked",
]

SAMPLES = 8
"""How many of a dataset's images a component is asked about, beside as many synthetic ones."""

_TOLERANCE = 1e-3
"""How far an answer may be from a stored one, as a share of the spread of the stored answers to the same image."""

_ROUNDING = 1e-5
"""The same as a share of the spread of all, for images on which an answer hardly tells classes apart."""

_CLASS = 4
"""By how much more than of the same image's answers an answer may be apart as a share of its class's own range."""

_ULPS = 2
"""How many units in the last place of a network's own arithmetic, where it is less than float32's."""

_OWN_ULPS = 8
"""How many units in the last place of float32 any answer may be apart, where all are nearly equal."""

_PROJECTIONS = 32
_SEED = 20261128

Array = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Probe = Callable[[torch.Tensor], torch.Tensor]


@dataclasses.dataclass(frozen=True)
class Behaviour:
    """How a component answered.

    Attributes:
        values: Its answers, shape (images, k); None where it gave none.
        fails: What it raised, or what it gave instead of numbers; empty where it answered.
        error: What it raised.
        random: How far two passes over the same images were apart, as a share of their spread, where that is more than
            rounding; otherwise 0.
        coarse: The unit in the last place of its own arithmetic, where that is less than float32; otherwise 0.
    """

    values: Array | None
    fails: str = ""
    error: BaseException | None = None
    random: float = 0.0
    coarse: float = 0.0


def is_self_contained(component: Component) -> bool:
    """Whether a component's answers follow from its code, parameters and weights, so that nobody need ask it.

    A class that a third party derives from one that says so does not inherit it.
    """
    holder = next((one for one in type(component).__mro__ if "self_contained" in vars(one)), None)
    same = holder is not None and _package(holder) == _package(type(component))
    return same and component.self_contained is True


def _package(component: type) -> str:
    return component.__module__.partition(".")[0]


def ask(probe: Probe, samples: torch.Tensor, coarse: float = 0.0, *, synthetic: bool = True) -> Behaviour:
    """Asks a component about a dataset's images and, unless it refuses these, about synthetic ones; twice.

    Global random numbers are the same at each first pass, and afterwards what they were.

    Args:
        probe: What it answers, shape (images, k); what this raises becomes a part of the behaviour.
        samples: float32, shape (n, channels, height, width).
        coarse: The unit in the last place of its arithmetic.
        synthetic: Whether it is asked about synthetic images beside.
    """
    devices = [samples.device] if samples.device.type == "cuda" else []
    with torch.random.fork_rng(devices), torch.no_grad():
        torch.manual_seed(_SEED)
        try:
            first, second = (_values(probe(samples.clone())) for _ in range(2))
        except Exception as error:
            return Behaviour(None, f"raises {type(error).__name__}", error)
        except SystemExit as error:
            return Behaviour(None, "leaves", error)
        if first is None or second is None:
            return Behaviour(None, "answers by no numbers")
        try:
            more = [_values(probe(_synthetic(samples))) for _ in range(2)] if synthetic else [None, None]
        except (Exception, SystemExit):  # it may well refuse what is no image
            more = [None, None]
    if all(one is not None and one.shape[1:] == first.shape[1:] for one in more):
        first, second = (np.concatenate([one, other]) for one, other in zip((first, second), more, strict=True))
    if first.shape == second.shape and agree(first, second, coarse):
        return Behaviour(first, coarse=coarse)
    return Behaviour(first, random=_apart(first, second))


def network_probe(network: torch.nn.Module, batch_size: int) -> tuple[Probe, float]:
    """How a network is asked, and the unit in the last place of its own arithmetic; 0 of float32 and float64."""

    def probe(images: torch.Tensor) -> torch.Tensor:
        return torch.cat([_numbers(network(part)) for part in torch.split(images, max(1, batch_size))])

    kept = (*network.parameters(), *network.buffers())
    units = [torch.finfo(one.dtype).eps for one in kept if one.dtype.is_floating_point]
    return probe, max([unit for unit in units if unit > torch.finfo(torch.float32).eps], default=0.0)


def defense_probe(apply: Callable[[torch.Tensor, SampleRandom], torch.Tensor]) -> Probe:
    """How a defense is asked: its images, each as a few fixed sums of its pixels."""

    def probe(images: torch.Tensor) -> torch.Tensor:
        rng = SampleRandom(_SEED, "behaviour", range(len(images)), images.device)
        return _sums(apply(images, rng))

    return probe


def attack_probe(attack: Attack, classes: int) -> Probe:
    """How an attack is asked: its images, each as a few fixed sums of its pixels."""
    return lambda images: _sums(attacked_points(attack, images, classes))


def _sums(images: Any) -> torch.Tensor:
    """A few fixed sums of each image's pixels."""
    flat = _numbers(images).flatten(1)
    generator = torch.Generator().manual_seed(_SEED)
    signs = torch.randint(0, 2, (flat.shape[1], _PROJECTIONS), generator=generator).float() * 2 - 1
    return flat @ signs


def _numbers(answer: Any) -> torch.Tensor:
    """An answer as float32 on the processor; a scalar where it is no tensor of a row for each image."""
    if not isinstance(answer, torch.Tensor) or answer.ndim < 2 or answer.is_complex():
        return torch.zeros(())
    return answer.detach().to("cpu", torch.float32)


def _values(answer: torch.Tensor) -> Array | None:
    return None if answer.ndim < 2 else np.asarray(answer.flatten(1).numpy(), dtype=np.float32)


def agree(stored: Array, found: Array, coarse: float = 0.0) -> bool:
    """Whether answers are those that are stored, within a tolerance that threads, machines and devices keep.

    That is 1e-3 of the spread of the stored answers to the same image, or what the network's own arithmetic allows;
    and no more than 4e-3 of the range of the stored answers for the same class.
    """
    if stored.shape != found.shape or stored.size == 0:
        return stored.shape == found.shape
    finite = np.isfinite(stored)
    if not np.array_equal(stored[~finite], found[~finite], equal_nan=True) or not np.isfinite(found[finite]).all():
        return False
    known = np.where(finite, stored, np.nan).astype(np.float64)
    if not finite.any():
        return True
    low, high = (np.where(finite, known, filler) for filler in (np.inf, -np.inf))
    spread = np.maximum(high.max(axis=1) - low.min(axis=1), 0.0)
    whole = float(high.max() - low.min())
    allowed = np.maximum(max(_TOLERANCE, _ULPS * coarse) * spread, _ROUNDING * whole)
    allowed = np.maximum(allowed, _ULPS * coarse * float(np.nanmax(np.abs(known))))
    size = np.where(finite, np.abs(known), 0.0)
    allowed = np.minimum(allowed[:, None], _limit(low, high, size, coarse))
    allowed = np.maximum(allowed, _OWN_ULPS * float(np.finfo(np.float32).eps) * size)
    with np.errstate(invalid="ignore"):
        apart = np.where(finite, np.abs(found.astype(np.float64) - known), 0.0)
    return bool((apart <= allowed).all())


def _limit(low: Doubles, high: Doubles, size: Doubles, coarse: float) -> Doubles:
    """How far each entry may be apart by the range of its own class, so that a masked class (-1e9) widens no other.

    What is added is for a class whose answers hardly differ: the rounding of sums as large as a usual class has.

    Args:
        low: The answers, shape (images, k); infinite where they are not finite.
        high: The same; minus infinite there.
        size: Their absolute values; 0 there.
        coarse: The unit in the last place of the network's arithmetic.
    """
    of_class = np.maximum(high.max(axis=0) - low.min(axis=0), 0.0)
    differ = of_class[of_class > 0]
    usual = float(np.median(differ)) if differ.size else 0.0
    rounding = max(_ROUNDING, _ULPS * coarse)
    limit: Doubles = np.maximum(_CLASS * max(_TOLERANCE, _ULPS * coarse) * of_class, rounding * size)
    return np.maximum(limit, rounding * usual)


def _apart(one: Array, other: Array) -> float:
    """How far answers are apart, as a share of their spread; infinite where that cannot be told."""
    if one.shape != other.shape or not (np.isfinite(one).all() and np.isfinite(other).all()):
        return float("inf")
    spread = float(one.max() - one.min())
    return float(np.abs(one.astype(np.float64) - other).max()) / spread if spread else float("inf")


def identify(values: Array) -> str:
    """SHA-256 of answers, by which a behaviour goes into keys."""
    return hashlib.sha256(f"{values.shape}".encode() + values.astype("<f4").tobytes()).hexdigest()


def packed(array: npt.NDArray[Any]) -> dict[str, Any]:
    """An array as JSON, NaN and infinity included."""
    little = np.ascontiguousarray(array.astype(array.dtype.newbyteorder("<")))
    return {
        "dtype": array.dtype.name,
        "shape": list(array.shape),
        "content": base64.b64encode(little.tobytes()).decode(),
    }


def unpacked(told: Mapping[str, Any]) -> npt.NDArray[Any]:
    """The array of :func:`packed`.

    Raises:
        ValueError, TypeError, KeyError: It is none.
    """
    dtype = np.dtype(told["dtype"]).newbyteorder("<")
    array = np.frombuffer(base64.b64decode(told["content"], validate=True), dtype=dtype).reshape(told["shape"])
    native: npt.NDArray[Any] = array.astype(np.dtype(told["dtype"]))
    return native


def _synthetic(samples: torch.Tensor) -> torch.Tensor:
    """Eight images of the samples' shape that no dataset has: plain, noise, slopes, blobs and a pattern."""
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
        *(one.expand(channels, height, width) for one in (rows, columns, pattern)),
    ]
    return torch.stack([*plain, noise[0], *drawn]).to(samples.device)
