from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import torch

from advbench.api import DataSources, ParameterError, WeightsError, save_weights, sha256_file
from advbench_datasets.mnist_5k import Mnist5k
from advbench_models.mnist_cnn import MnistCnn, MnistCnnNetwork

SHIPPED = MnistCnn.shipped_folder / "mnist-cnn.safetensors"
TRAIN_COMMAND = "advbench train mnist-cnn --output"


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.Tensor, torch.Tensor]:
    dataset = Mnist5k()
    return dataset.load(DataSources(tmp_path_factory.mktemp("cache"), download=False)).take(dataset.ids())


@pytest.fixture(scope="module")
def network() -> torch.nn.Module:
    return MnistCnn().load().eval()


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A copy of the shipped weights with their sidecar."""
    shutil.copy(SHIPPED.with_suffix(".json"), tmp_path)
    return Path(shutil.copy(SHIPPED, tmp_path))


def test_the_network_equals_the_papers() -> None:
    sizes = [tuple(parameter.shape) for parameter in MnistCnnNetwork().parameters() if parameter.ndim > 1]
    assert sizes == [(20, 1, 5, 5), (50, 20, 5, 5), (500, 800), (10, 500)]
    assert sum(parameter.numel() for parameter in MnistCnnNetwork().parameters()) == 431_080


def test_outputs_are_logits(network: torch.nn.Module, digits: tuple[torch.Tensor, torch.Tensor]) -> None:
    with torch.no_grad():
        logits = network(digits[0][::500])
    assert logits.shape == (10, 10)
    assert logits.min() < 0
    # Of log-probabilities it would be 0, of probabilities near 1.
    assert logits.logsumexp(1).abs().min() > 2


def test_the_first_layer_receives_normalised_images(
    network: torch.nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    seen = []
    convolution = next(module for module in network.modules() if isinstance(module, torch.nn.Conv2d))
    handle = convolution.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    with torch.no_grad():
        network(digits[0][::5])
    handle.remove()
    assert abs(float(seen[0].mean())) < 0.03
    assert abs(float(seen[0].std()) - 1) < 0.03


def test_shipped_weights_classify_images_not_in_the_training_set(
    network: torch.nn.Module, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    images, labels = digits
    before = images.clone()
    with torch.no_grad():
        predictions = torch.cat([network(batch).argmax(1) for batch in images.split(500)])
    assert float((predictions == labels).float().mean()) >= 0.985
    assert torch.equal(images, before)


def test_pooling_before_relu_changes_neither_logits_nor_gradients(
    network: MnistCnnNetwork, digits: tuple[torch.Tensor, torch.Tensor]
) -> None:
    def papers(images: torch.Tensor) -> torch.Tensor:
        features = (images - network.mean) / network.std
        for convolution in (network.features[0], network.features[3]):
            features = torch.nn.functional.max_pool2d(torch.relu(convolution(features)), 2)
        return network.classifier(features)  # type: ignore[no-any-return]

    images = digits[0][:100].clone().requires_grad_()
    ours, theirs = network(images), papers(images)
    assert torch.equal(ours, theirs)
    gradients = [torch.autograd.grad(logits.logsumexp(1).sum(), images)[0] for logits in (ours, theirs)]
    assert torch.equal(*gradients)


def test_the_shipped_sidecar_records_the_training() -> None:
    sidecar = json.loads(SHIPPED.with_suffix(".json").read_text())
    assert sidecar["component"] == "mnist-cnn"
    assert sidecar["test_accuracy"] >= 0.987
    assert sidecar["training_samples"] == 55_000
    assert (sidecar["epochs"], sidecar["batch_size"], sidecar["seed"]) == (10, 64, 0)
    assert (sidecar["optimizer"], sidecar["learning_rate"], sidecar["momentum"]) == ("sgd", 0.01, 0.5)
    assert {"python", "torch", "advbench"} <= sidecar["versions"].keys()


def test_the_digest_is_that_of_the_weights_in_use(copy: Path) -> None:
    assert MnistCnn().weights_digest() == sha256_file(SHIPPED)
    save_weights(copy, MnistCnnNetwork().state_dict(), {})
    assert MnistCnn(weights=str(copy)).weights_digest() == sha256_file(copy) != sha256_file(SHIPPED)


def test_weights_from_a_file_are_loaded(copy: Path) -> None:
    state = MnistCnnNetwork().state_dict()
    save_weights(copy, state, {})
    loaded = MnistCnn(weights=str(copy)).load().state_dict()
    assert all(torch.equal(loaded[key], state[key]) for key in state)


def damage(weights: Path, kind: str) -> None:
    if kind == "missing":
        weights.unlink()
    elif kind == "no sidecar":
        weights.with_suffix(".json").unlink()
    elif kind == "cut short":
        weights.write_bytes(weights.read_bytes()[:-1000])
    elif kind == "altered":
        content = bytearray(weights.read_bytes())
        content[-1] ^= 1
        weights.write_bytes(content)
    elif kind == "of another network":
        save_weights(weights, torch.nn.Linear(2, 2).state_dict(), {})


damages = pytest.mark.parametrize("kind", ["missing", "no sidecar", "cut short", "altered", "of another network"])


@damages
def test_unusable_weights_are_rejected_with_the_command_that_makes_them(kind: str, copy: Path) -> None:
    damage(copy, kind)
    with pytest.raises(WeightsError, match=re.escape(f"{TRAIN_COMMAND} {copy}")) as raised:
        MnistCnn(weights=str(copy)).load()
    assert str(copy.with_suffix("")) in str(raised.value).partition("advbench train")[0]


@damages
def test_unusable_shipped_weights_advise_to_reinstall(kind: str, copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    damage(copy, kind)
    monkeypatch.setattr(MnistCnn, "shipped_folder", copy.parent)
    with pytest.raises(WeightsError, match=f"reinstall advbench.*{TRAIN_COMMAND} FILE"):
        MnistCnn().load()


def test_the_digest_of_missing_weights_raises_an_error(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=TRAIN_COMMAND):
        MnistCnn(weights=str(tmp_path / "none.safetensors")).weights_digest()


@pytest.mark.parametrize("weights", ["model.pt", "shiped", ""])
def test_other_file_types_of_weights_are_rejected(weights: str) -> None:
    with pytest.raises(ParameterError, match=r"must be 'shipped', 'noise' or the path of a \.safetensors file"):
        MnistCnn(weights=weights)
