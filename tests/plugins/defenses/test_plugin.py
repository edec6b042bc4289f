from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from advbench.api import Component, Defense, ParameterError, SampleRandom
from advbench.process.state import isolated_process
from advbench_defenses import plugin
from advbench_defenses.gaussian import GaussianBlur
from advbench_defenses.jpeg import JpegCompression
from advbench_defenses.kmeans import KMeansQuantisation
from advbench_defenses.none import NoDefense
from advbench_defenses.tvm import TotalVariationMinimisation

# vqvae takes the shapes alone that it was trained on, and has its own tests.
EVERY = [NoDefense(), JpegCompression(), GaussianBlur(), KMeansQuantisation(), TotalVariationMinimisation()]
every = pytest.mark.parametrize("defense", EVERY, ids=lambda defense: defense.name)


def test_all_defenses_are_registered() -> None:
    registered: list[type[Defense]] = []
    plugin.register_defenses(registered.append)
    assert [defense.name for defense in registered] == [
        "none",
        "jpeg",
        "gaussian",
        "kmeans",
        "tvm",
        "vqvae",
        "smoothing",
        "gaussian-noise",
        "feature-squeezing",
        "ensemble",
        "denoiser",
        "defense-gan",
        "bit-depth",
        "median",
        "non-local-means",
        "bilateral",
        "wavelet",
        "resize-pad",
        "crop-ensemble",
        "shield",
        "quilting",
    ]


@pytest.mark.slow
def test_importing_the_plugin_loads_no_library_of_a_single_defense() -> None:
    code = "import sys, advbench_defenses.plugin; print(*sys.modules, sep='\\n')"
    loaded = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()
    assert "advbench_defenses.kmeans" in loaded
    assert not {"sklearn", "scipy", "PIL", "skimage", "threadpoolctl"} & set(loaded)


@every
def test_inputs_are_not_changed(defense: Defense, images: torch.Tensor) -> None:
    before = images.clone()
    defense.apply(images, SampleRandom(0, "defense", range(5)))
    assert torch.equal(images, before)


@every
def test_shape_and_dtype_are_kept(defense: Defense, images: torch.Tensor) -> None:
    defended = defense.apply(images, SampleRandom(0, "defense", range(5)))
    assert defended.shape == images.shape
    assert defended.dtype == torch.float32
    assert defended.isfinite().all()


@every
def test_strided_images_give_the_same_result(defense: Defense, images: torch.Tensor) -> None:
    strided = images.to(memory_format=torch.channels_last).repeat_interleave(2, dim=3)[..., ::2]
    assert torch.equal(strided, images)
    assert torch.equal(
        defense.apply(strided, SampleRandom(0, "defense", range(5))),
        defense.apply(images, SampleRandom(0, "defense", range(5))),
    )


@every
def test_a_sample_has_the_same_result_alone_and_in_any_batch(defense: Defense, images: torch.Tensor) -> None:
    together = defense.apply(images, SampleRandom(0, "defense", range(5)))
    backwards = defense.apply(images.flip(0), SampleRandom(0, "defense", range(4, -1, -1))).flip(0)
    alone = [defense.apply(images[i : i + 1], SampleRandom(0, "defense", [i])) for i in range(5)]
    assert torch.equal(torch.cat(alone), together)
    assert torch.equal(backwards, together)


@every
def test_an_empty_batch_stays_empty(defense: Defense) -> None:
    assert defense.apply(torch.empty(0, 1, 8, 8), SampleRandom(0, "defense", [])).shape == (0, 1, 8, 8)


@every
def test_only_a_stochastic_defense_depends_on_the_seed(defense: Defense, images: torch.Tensor) -> None:
    results = [defense.apply(images, SampleRandom(seed, "defense", range(5))) for seed in (0, 1)]
    assert torch.equal(*results) != defense.stochastic


@every
def test_adaptive_attacks_find_a_gradient_through_it(defense: Defense, images: torch.Tensor) -> None:
    points = images.clone().requires_grad_()
    way = defense.apply if defense.differentiable else defense.approximation
    passed = way(points, SampleRandom(0, "defense", range(5)))
    assert passed.shape == images.shape
    (gradient,) = torch.autograd.grad(passed.square().sum(), points)
    assert gradient.isfinite().all()
    assert gradient.flatten(1).any(dim=1).all()


def test_the_gradient_of_the_blur_is_its_own(images: torch.Tensor) -> None:
    blur, rng = GaussianBlur(1.5), SampleRandom(0, "defense", range(5))
    points = images.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: blur.apply(x, rng), points[:1, :, :6, :6], fast_mode=True)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@every
def test_images_on_a_gpu_stay_there_and_give_the_same_result(defense: Defense, images: torch.Tensor) -> None:
    with isolated_process():
        on_cpu = defense.apply(images, SampleRandom(0, "defense", range(5)))
        on_gpu = defense.apply(images.cuda(), SampleRandom(0, "defense", range(5), device="cuda"))
    assert on_gpu.is_cuda
    torch.testing.assert_close(on_gpu.cpu(), on_cpu, atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("defense", "parameter", "text"),
    [
        (JpegCompression, "quality", "0"),
        (JpegCompression, "quality", "101"),
        (JpegCompression, "quality", "7.5"),
        (GaussianBlur, "sigma", "-0.1"),
        (GaussianBlur, "sigma", "none"),
        (GaussianBlur, "sigma_x", "-1"),
        (GaussianBlur, "sigma_y", "1001"),
        (KMeansQuantisation, "clusters", "0"),
        (KMeansQuantisation, "iterations", "0"),
        (TotalVariationMinimisation, "drop", "1"),
        (TotalVariationMinimisation, "drop", "-0.1"),
        (TotalVariationMinimisation, "weight", "0"),
        (TotalVariationMinimisation, "iterations", "0"),
        (TotalVariationMinimisation, "sweeps", "0"),
        (TotalVariationMinimisation, "tolerance", "-1"),
    ],
)
def test_parameters_out_of_range_are_rejected(defense: type[Component], parameter: str, text: str) -> None:
    with pytest.raises(ParameterError, match=parameter):
        defense.from_text({parameter: text})


def test_the_baseline_returns_the_images_unchanged(images: torch.Tensor) -> None:
    assert NoDefense().apply(images, SampleRandom(0, "defense", range(5))) is images
