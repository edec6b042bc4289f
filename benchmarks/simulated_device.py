"""An accelerator simulated on the CPU, which counts how often the program would wait for it.

Kernels of an accelerator run while the program goes on. An operation whose result the program needs, such as
``tensor.item()`` or ``values[mask]``, waits until all kernels have run. On the CPU, such operations cost nothing
visible. This module makes them visible without an accelerator: tensors report another device, compute on the CPU, and
every operation that waits on a CUDA device is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DEVICE", "DeviceTensor", "SimulatedDevice", "to_device", "to_host"]

DEVICE = torch.device("meta")
"""What the tensors report. It is a device that torch knows without hardware, and whose gradients it computes in one
thread."""

_WAITS = {
    "aten::_local_scalar_dense": "item",  # item(), int(), float(), bool(), and if, while, min() of tensors
    "aten::nonzero": "nonzero",
    "aten::masked_select": "masked_select",
    "aten::equal": "equal",
    "aten::_unique2": "unique",
    "aten::unique_dim": "unique",
    "aten::unique_consecutive": "unique",
    "aten::bincount": "bincount",
    "aten::repeat_interleave": "repeat_interleave",  # the size of its result depends on values
}
"""Operations that wait on a CUDA device, and what the table calls them."""

_INDEXING = ("aten::index", "aten::index_put", "aten::index_put_", "aten::_index_put_impl_", "aten::_unsafe_index")
_COPIES = ("aten::_to_copy", "aten::copy_")
_COUNTED = {*_WAITS, *_INDEXING, *_COPIES}
_FROM_DATA = (torch.tensor, torch.as_tensor, torch.asarray, torch.Tensor.new_tensor)


class DeviceTensor(torch.Tensor):
    """A tensor of the simulated device; its values are in a tensor of the CPU.

    Attributes:
        host: That tensor.
    """

    host: torch.Tensor

    @staticmethod
    def __new__(cls, host: torch.Tensor) -> DeviceTensor:
        """Wraps a tensor of the CPU."""
        wrapped: DeviceTensor = torch.Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls, host.size(), strides=host.stride(), storage_offset=host.storage_offset(), dtype=host.dtype,
            layout=host.layout, device=DEVICE,
        )  # fmt: skip
        wrapped.host = host
        return wrapped

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Runs an operation outside of :class:`SimulatedDevice`; nothing is counted."""
        del types
        return _run(func, args, kwargs or {})


class SimulatedDevice(TorchDispatchMode):
    """Counts waits for the simulated device while the block runs.

    Args:
        float64: Whether the device has float64; if not, a tensor of this type raises TypeError, as on ``mps``.

    Attributes:
        waits: How many operations waited, by what they did.
    """

    def __init__(self, *, float64: bool = True) -> None:
        super().__init__()
        self.waits = Counter[str]()
        self._float64 = float64
        self._creation = _Creation()

    def __enter__(self) -> Self:
        self._creation.__enter__()
        return super().__enter__()  # type: ignore[no-any-return]

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self._creation.__exit__(*error)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Counts an operation's waits and runs it on the CPU."""
        del types
        if func._schema.name in _COUNTED:
            self.waits.update(_waits(func, args, kwargs or {}))
        result = _run(func, args, kwargs or {})
        if not self._float64 and any(
            isinstance(t, DeviceTensor) and t.dtype == torch.float64 for t in _tensors(result)
        ):
            raise TypeError(f"{func}: the simulated device has no float64")
        return result


class _Creation(TorchFunctionMode):
    """Makes tensors of Python numbers on the CPU and copies them, as torch does without telling modes."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        del types
        given = dict(kwargs or {})
        device = given.get("device")
        if func is torch.Tensor.tolist:
            return args[0].cpu().tolist()  # torch refuses to make lists of subclasses
        if func is torch.Tensor.new_tensor and device is None:
            device = args[0].device
        if func not in _FROM_DATA or device is None or torch.device(device) != DEVICE:
            return func(*args, **given)
        if func is torch.Tensor.new_tensor:
            func, args = torch.tensor, args[1:]
            given.setdefault("dtype", args[0].dtype if isinstance(args[0], torch.Tensor) else None)
        if isinstance(args[0], DeviceTensor):
            return args[0].to(given.get("dtype"))
        return func(*args, **{**given, "device": "cpu"}).to(DEVICE)


def to_device(value: Any) -> Any:
    """A tensor on the simulated device; or a module, whose parameters and buffers are moved there in place."""
    if isinstance(value, torch.Tensor):
        return DeviceTensor(value.detach().clone())
    for module in value.modules():
        for tensors in (module._parameters, module._buffers):
            for name, tensor in tensors.items():
                if tensor is not None:
                    tensors[name] = DeviceTensor(tensor.detach().clone())
    return value


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """The values of a tensor, without counting."""
    return tensor.detach().host if isinstance(tensor, DeviceTensor) else tensor


def _run(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    tensors = _tensors((args, kwargs))
    on_device = any(isinstance(tensor, DeviceTensor) for tensor in tensors)
    target = kwargs.get("device")
    if target is not None:
        on_device = torch.device(target) == DEVICE
        kwargs = {**kwargs, "device": torch.device("cpu")} if on_device else kwargs
    name = func._schema.name
    if name == "aten::copy_":
        on_device = isinstance(args[0], DeviceTensor)
    elif on_device and name not in _COPIES and name not in _INDEXING:
        strangers = [tensor for tensor in tensors if tensor.ndim and not isinstance(tensor, DeviceTensor)]
        if strangers:
            raise RuntimeError(f"{name}: expected all tensors to be on the same device, found cpu and {DEVICE}")
    result = func(*_mapped(_unwrapped, args), **_mapped(_unwrapped, kwargs))
    if name.endswith("_") and not name.endswith("__") and isinstance(result, torch.Tensor):
        return args[0]  # changed in place
    if kwargs.get("out") is not None:
        return kwargs["out"]
    return _mapped(DeviceTensor, result) if on_device else result


def _waits(func: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Counter[str]:
    name, tensors = func._schema.name, _tensors((args, kwargs))
    on_device = [isinstance(tensor, DeviceTensor) for tensor in tensors]
    if name in _COPIES:
        target = args[0] if name == "aten::copy_" else None
        to = kwargs.get("device") if target is None else target.device
        source = tensors[-1] if target is not None else tensors[0]
        if to is None or torch.device(to) == source.device:
            return Counter()
        upwards = torch.device(to) == DEVICE
        waits = not (upwards and (kwargs.get("non_blocking") or (source.ndim == 0 and target is not None)))
        return +Counter({"copy to the device" if upwards else "copy from the device": int(waits)})
    if not any(on_device):
        return Counter()
    if name in _INDEXING:
        indices = [index for index in args[1] if index is not None]
        masks = sum(isinstance(index, DeviceTensor) and index.dtype in (torch.bool, torch.uint8) for index in indices)
        if "index_put" in name and args[2].ndim == 0:
            masks = 0  # a number goes where a mask is true without a wait
        copies = sum(not isinstance(index, DeviceTensor) for index in indices)
        return +Counter({"mask as index": masks, "copy to the device": copies})
    return Counter({_WAITS[name]: 1} if name in _WAITS else {})


def _tensors(values: Any) -> list[torch.Tensor]:
    if isinstance(values, torch.Tensor):
        return [values]
    if isinstance(values, dict):
        values = values.values()
    elif not isinstance(values, (list, tuple)):
        return []
    found: list[torch.Tensor] = []
    for one in values:
        if isinstance(one, torch.Tensor):
            found.append(one)
        elif isinstance(one, (list, tuple, dict)):
            found += _tensors(one)
    return found


def _mapped(function: Callable[[torch.Tensor], Any], value: Any) -> Any:
    """A value whose tensors are replaced; faster than torch's pytree."""
    if isinstance(value, torch.Tensor):
        return function(value)
    if isinstance(value, (list, tuple)):
        return type(value)([_mapped(function, one) for one in value])
    if isinstance(value, dict):
        return {key: _mapped(function, one) for key, one in value.items()}
    return value


def _unwrapped(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.host if isinstance(tensor, DeviceTensor) else tensor
