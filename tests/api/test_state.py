"""The digest of a network's state covers every kind of tensor and value, and equal states have equal digests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from advbench.api import WeightsError, state_digest


class Holder(nn.Module):
    """A module with one tensor and extra state."""

    def __init__(self, tensor: torch.Tensor, extra: object = None) -> None:
        super().__init__()
        self.register_buffer("held", tensor)
        self.extra = extra

    def get_extra_state(self) -> Any:
        return self.extra

    def set_extra_state(self, state: Any) -> None:
        self.extra = state


class Settings:
    """An object with attributes."""

    def __init__(self, size: int) -> None:
        self.size = size


def ones(dtype: torch.dtype) -> Callable[[float], torch.Tensor]:
    return lambda value: torch.tensor([value, 1.0]).to(dtype)


TENSORS: dict[str, Callable[[float], torch.Tensor]] = {
    **{
        str(dtype): ones(dtype)
        for dtype in (torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.int8, torch.bool)
    },
    "no dimension": torch.tensor,
    "transposed": lambda value: torch.tensor([[1.0, value], [3.0, 4.0]]).t(),
    "expanded": lambda value: torch.tensor([[value]]).expand(3, 2),
    "conjugate": lambda value: torch.tensor([complex(1, value)]).conj(),
    "sparse": lambda value: torch.tensor([[0.0, value + 1]]).to_sparse(),
    "sparse rows": lambda value: torch.tensor([[0.0, value + 1]]).to_sparse_csr(),
    "no element": lambda value: torch.zeros(0, int(value) + 1),
    "meta": lambda value: torch.zeros(int(value) + 1, device="meta"),
}


@pytest.mark.filterwarnings("ignore:.*sparse.*:UserWarning", "ignore:Sparse CSR.*")
@pytest.mark.parametrize("kind", TENSORS)
def test_every_kind_of_tensor_changes_the_digest(kind: str) -> None:
    first, same, other = (state_digest(Holder(TENSORS[kind](value))) for value in (0.0, 0.0, 1.0))
    assert first == same != other


def test_type_and_shape_change_the_digest() -> None:
    zeros = [torch.zeros(4), torch.zeros(4, dtype=torch.int32), torch.zeros(2, 2)]
    assert len({state_digest(Holder(tensor)) for tensor in zeros}) == 3


@pytest.mark.parametrize("make", [lambda x: {"a": [x, None]}, lambda x: {x, 7}, Settings, lambda x: (torch.tensor(x),)])
def test_extra_state_may_be_any_value(make: Callable[[int], Any]) -> None:
    first, same, other = (state_digest(Holder(torch.zeros(1), make(value))) for value in (2, 2, 3))
    assert first == same != other


@pytest.mark.filterwarnings("ignore:.*quant.*", "ignore:.*torch.ao.*")
def test_quantised_layers_change_the_digest() -> None:
    from torch.ao.quantization import quantize_dynamic

    def quantised(bias: float) -> nn.Module:
        network = nn.Sequential(nn.Linear(3, 2)).eval()
        for parameter in network.parameters():
            nn.init.constant_(parameter, bias)
        made: nn.Module = quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)
        return made

    first, same, other = (state_digest(quantised(bias)) for bias in (0.5, 0.5, 0.25))
    assert first == same != other


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
def test_constants_of_a_frozen_module_change_the_digest() -> None:
    def frozen(bias: float) -> nn.Module:
        network = nn.Sequential(nn.Linear(3, 2)).eval()
        for parameter in network.parameters():
            nn.init.constant_(parameter, bias)
        made: nn.Module = torch.jit.freeze(torch.jit.script(network))
        return nn.Sequential(made)

    first, same, other = (state_digest(frozen(bias)) for bias in (0.5, 0.5, 0.25))
    assert first == same != other


def test_the_error_names_the_lazy_layer() -> None:
    with pytest.raises(WeightsError, match=r"1\.weight belongs to a lazy layer that has no shape yet"):
        state_digest(nn.Sequential(nn.Flatten(), nn.LazyLinear(3)))
