"""Float32 is float32, whatever the process was set to, and the process is left as it was."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from advbench.process.float32 import exact_float32, float32_settings, set_float32
from advbench.process.state import isolated_process

CHANGES: dict[str, Callable[[], object]] = {
    "nothing": lambda: None,
    "the old setting of cuDNN": lambda: setattr(torch.backends.cudnn, "allow_tf32", False),
    "the precision of matrix products": lambda: torch.set_float32_matmul_precision("medium"),
}
if hasattr(torch.backends.cudnn, "conv"):
    CHANGES |= {
        "all new settings": lambda: setattr(torch.backends, "fp32_precision", "tf32"),
        "the new setting of cuDNN": lambda: setattr(torch.backends.cudnn, "fp32_precision", "tf32"),
        "the new setting of convolutions": lambda: setattr(torch.backends.cudnn.conv, "fp32_precision", "ieee"),
        "the new setting of oneDNN": lambda: setattr(torch.backends.mkldnn.conv, "fp32_precision", "bf16"),
    }


@pytest.fixture(autouse=True)
def settings() -> Iterator[dict[str, object]]:
    before = float32_settings()
    yield before
    set_float32(before)


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_float32_is_exact_inside_and_what_it_was_after(change: Callable[[], object]) -> None:
    change()
    before = float32_settings()
    with exact_float32():
        assert not torch.backends.cudnn.allow_tf32
        assert not torch.backends.cuda.matmul.allow_tf32
        assert torch.get_float32_matmul_precision() == "highest"
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert not {"tf32", "bf16"} & set(float32_settings().values())
        with torch.backends.cudnn.flags(enabled=False):  # as networks do; it reads the settings, and raises at odd ones
            pass
    assert float32_settings() == before


def test_components_run_in_exact_float32() -> None:
    with isolated_process() as process:
        assert not torch.backends.cudnn.allow_tf32
        assert not process.restore()


def test_the_choice_of_algorithms_is_what_it_was_after() -> None:
    cudnn = torch.backends.cudnn
    cudnn.benchmark = True
    try:
        with pytest.raises(KeyError), exact_float32():
            assert not cudnn.benchmark
            raise KeyError
        assert cudnn.benchmark
        assert not cudnn.deterministic
    finally:
        cudnn.benchmark = False


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_convolution_on_a_gpu_is_that_of_the_processor() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(8, 64, 16, 16, generator=generator)
    kernels = torch.randn(64, 64, 3, 3, generator=generator)
    exact = torch.nn.functional.conv2d(images.double(), kernels.double())
    with exact_float32():
        on_gpu = torch.nn.functional.conv2d(images.cuda(), kernels.cuda())
        again = torch.nn.functional.conv2d(images.cuda(), kernels.cuda())
    torch.testing.assert_close(on_gpu.cpu().double(), exact, atol=5e-4, rtol=0)  # TF32 is off by 0.03
    assert torch.equal(on_gpu, again)
