"""torchvision's classifiers, with weights that lie where torchvision would put them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision import models

from advbench.api import WeightsError
from advbench.discovery.loading import discover
from advbench.specs import resolve_one

pytestmark = pytest.mark.slow

ARCH = "squeezenet1_1"  # the smallest file


def build(spec: str) -> Any:
    return resolve_one(discover(), "models", spec)


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return models.get_model(ARCH, weights=None).eval()


def test_own_weights_use_torchvisions_preprocessing(network: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "own.pth")
    model = build(f"torchvision:arch={ARCH},weights={tmp_path / 'own.pth'}")
    assert (model.image_shape, model.num_classes) == ((3, 224, 224), 1000)
    images = torch.rand(1, 3, 224, 224)
    transform = models.get_model_weights(ARCH).DEFAULT.transforms()
    expected = (images - torch.tensor(transform.mean).reshape(3, 1, 1)) / torch.tensor(transform.std).reshape(3, 1, 1)
    with torch.no_grad():
        assert torch.allclose(model.load().eval()(images), network(expected), atol=1e-5)


@pytest.mark.parametrize("arch", [ARCH, "resnet18"])
def test_the_number_of_classes_is_read_from_the_file(arch: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = models.get_model(arch, weights=None, num_classes=7).eval()
    file = tmp_path / "own.pth"
    torch.save({"state_dict": {f"module.{name}": tensor for name, tensor in own.state_dict().items()}}, file)
    model = build(f"torchvision:arch={arch},weights={file}")
    assert model.num_classes == 7
    assert build(f"torchvision:arch={arch},weights={file},classes=7").num_classes == 7
    with torch.no_grad():
        assert model.load().eval()(torch.rand(1, 3, 64, 64)).shape == (1, 7)
    with pytest.raises(WeightsError, match="do not fit"):
        build(f"torchvision:arch={arch},weights={file},classes=9").load()


def test_images_of_other_sizes_are_resized_inside_if_asked(network: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "own.pth")
    model = build(f"torchvision:arch={ARCH},weights={tmp_path / 'own.pth'},resize=auto")
    assert (model.image_shape, model.num_classes) == (None, 1000)
    loaded, transform = model.load().eval(), models.get_model_weights(ARCH).DEFAULT.transforms()
    with torch.no_grad():
        for size in (256, 300):
            images = torch.rand(1, 3, size, size) * 0.5 + 0.2
            assert torch.allclose(loaded(images), network(transform(images)), atol=1e-5)
        normalised = (images[..., :224, :224] - loaded.mean) / loaded.std
        assert torch.allclose(loaded(images[..., :224, :224]), network(normalised), atol=1e-5)


def test_the_order_in_memory_changes_no_value(network: torch.nn.Module, tmp_path: Path) -> None:
    torch.save(network.state_dict(), tmp_path / "own.pth")
    images = torch.rand(2, 3, 64, 64)
    last, first = (
        build(f"torchvision:arch={ARCH},{options}weights={tmp_path / 'own.pth'}").load().eval()
        for options in ("", "memory_format=contiguous,")
    )
    weights = [next(weight for weight in one.parameters() if weight.ndim == 4) for one in (last, first)]
    assert [weight.is_contiguous(memory_format=torch.channels_last) for weight in weights] == [True, False]
    with torch.no_grad():
        torch.testing.assert_close(last(images), first(images), atol=1e-5, rtol=1e-5)


def test_networks_with_other_statistics_transform_their_input(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = models.googlenet(weights=None, transform_input=True, aux_logits=False, init_weights=False, num_classes=5)
    torch.save(own.state_dict(), tmp_path / "own.pth")
    model = build(f"torchvision:arch=googlenet,weights={tmp_path / 'own.pth'}")
    assert model.num_classes == 5
    assert model.load().network.transform_input


def test_cached_weights_are_checked_against_the_digest_in_their_name(
    network: torch.nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    model = build(f"torchvision:arch={ARCH}")
    name = models.get_model_weights(ARCH).DEFAULT.url.rpartition("/")[2]
    file = tmp_path / "hub" / "checkpoints" / name
    file.parent.mkdir(parents=True)
    torch.save(network.state_dict(), file)
    with pytest.raises(Exception, match="does not have the SHA-256 in its name; remove it"):
        model.load()
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    known = models.get_model_weights(ARCH).DEFAULT
    url = f"https://example.org/net-{digest[:8]}.pth"
    file.rename(file.with_name(url.rpartition("/")[2]))
    monkeypatch.setattr(type(known), "url", property(lambda _: url))
    assert torch.equal(
        model.load().network.state_dict()["classifier.1.bias"], network.state_dict()["classifier.1.bias"]
    )


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("arch=resnet5", "torchvision has no such classifier; did you mean 'resnet50'?"),
        (f"arch={ARCH},weights=V7", "has default, IMAGENET1K_V1; or give the path of a state dict"),
        (f"arch={ARCH},weights=nowhere.pth", "no such file"),
        (f"arch={ARCH},classes=7", "weights=default are for 1000; give a file of your own"),
    ],
)
def test_unusable_input_is_a_one_line_error(call: Callable[..., Any], given: str, message: str) -> None:
    called = call("matrix", "--datasets", "mnist-20", "--models", f"torchvision:{given}", "--attacks", "fgsm")
    assert called.code == 2
    assert message in called.error_line()
