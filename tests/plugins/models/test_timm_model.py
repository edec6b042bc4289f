"""timm's classifiers, from folders and caches in the layout of the Hugging Face hub."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import timm
import torch
from safetensors.torch import load_file, save_file
from tests.plugins.models.folders import COMMIT, VIT, hub_cache, photograph, pixels, timm_folder

from advbench.discovery.identity import dependency_versions
from advbench.discovery.loading import discover
from advbench.specs import resolve_one

pytestmark = pytest.mark.slow

REPOSITORY = f"timm/{VIT}.r160_in1k"


def build(spec: str) -> Any:
    return resolve_one(discover(), "models", spec)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    folder = tmp_path_factory.mktemp("hub") / "vit"
    return folder, timm_folder(folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def timms_logits(network: torch.nn.Module, picture: Any) -> torch.Tensor:
    """What timm's documentation says to do with a picture."""
    config = timm.data.resolve_model_data_config(network)
    transform = timm.data.create_transform(**config, is_training=False)
    with torch.no_grad():
        logits: torch.Tensor = network(transform(picture)[None])
    return logits


def test_a_folder_gives_the_logits_of_timms_own_pipeline(network: tuple[Path, torch.nn.Module]) -> None:
    folder, own = network
    model = build(f"timm:arch={VIT},checkpoint={folder}")
    assert (model.num_classes, model.image_shape, model.gives) == (1000, None, "gradients")
    loaded = model.load().eval()
    picture = photograph(168, 168)  # timm would resize to this: the crop and the normalisation remain
    assert timm.data.create_transform(**timm.data.resolve_model_data_config(own)).transforms[0].size == 168
    with torch.no_grad():
        assert torch.allclose(loaded(pixels(picture)), timms_logits(own, picture), atol=1e-5)
        for size in ((200, 180), (90, 80)):  # here timm rounds the resized picture to 8 bits
            picture = photograph(*size)
            expected = timms_logits(own, picture)
            assert (loaded(pixels(picture)) - expected).abs().max() < 0.05 * expected.std()


def test_images_of_the_input_size_are_only_normalised_unless_asked(network: tuple[Path, torch.nn.Module]) -> None:
    folder, own = network
    picture = photograph(160, 160)
    mean, std = (torch.tensor(own.pretrained_cfg[key]).reshape(3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        plain = own((pixels(picture) - mean) / std)
        loaded = build(f"timm:arch={VIT},checkpoint={folder}").load().eval()(pixels(picture))
        always = build(f"timm:arch={VIT},checkpoint={folder},resize=always").load().eval()(pixels(picture))
    assert torch.allclose(loaded, plain, atol=1e-5)
    far = (always - timms_logits(own, picture)).abs().max()
    assert far < 0.05 * plain.std()
    assert (always - plain).abs().max() > 10 * far
    never = build(f"timm:arch={VIT},checkpoint={folder / 'model.safetensors'},resize=never")
    assert never.image_shape == (3, 160, 160)


def test_a_state_dict_sets_the_number_of_classes(tmp_path: Path) -> None:
    torch.manual_seed(0)
    own = timm.create_model("test_resnet", num_classes=7).eval()
    file = tmp_path / "own.pth"
    torch.save({"state_dict": own.state_dict(), "epoch": 3}, file)
    model = build(f"timm:arch=test_resnet,checkpoint={file}")
    assert model.num_classes == 7
    picture = photograph(168, 168)
    with torch.no_grad():
        assert torch.allclose(model.load().eval()(pixels(picture)), timms_logits(own, picture), atol=1e-5)


def test_other_architectures_settings_are_read_from_the_folder(tmp_path: Path) -> None:
    own = timm_folder(tmp_path / "net", VIT, num_classes=4, class_token=False, global_pool="avg")
    model = build(f"timm:arch={VIT},checkpoint={tmp_path / 'net'},resize=always")
    assert model.num_classes == 4
    picture = photograph(168, 168)
    with torch.no_grad():
        assert torch.allclose(model.load().eval()(pixels(picture)), timms_logits(own, picture), atol=1e-5)


def test_without_a_checkpoint_the_hubs_cache_is_used(network: tuple[Path, torch.nn.Module], cache: Path) -> None:
    folder, own = network
    hub_cache(cache, REPOSITORY, folder)
    model = build(f"timm:arch={VIT}")
    picture = photograph(168, 168)
    with torch.no_grad():
        assert torch.allclose(model.load().eval()(pixels(picture)), timms_logits(own, picture), atol=1e-5)
    assert model._source.files[0].parent.name == COMMIT


def test_digests_depend_on_files_and_commit_and_keys_on_the_version(
    network: tuple[Path, torch.nn.Module], cache: Path, tmp_path: Path
) -> None:
    folder, _ = network
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)

    def digest(spec: str) -> str:
        return str(build(spec).weights_digest())

    first = digest(f"timm:arch={VIT},checkpoint={folder}")
    assert digest(f"timm:arch={VIT},checkpoint={copy}") == first
    config = json.loads((copy / "config.json").read_text())
    config["pretrained_cfg"]["crop_pct"] = 1.0
    (copy / "config.json").write_text(json.dumps(config))
    assert digest(f"timm:arch={VIT},checkpoint={copy}") != first
    state = load_file(copy / "model.safetensors")
    state["head.bias"] += 1
    shutil.copy(folder / "config.json", copy)
    save_file(state, copy / "model.safetensors")
    assert digest(f"timm:arch={VIT},checkpoint={copy}") != first
    hub_cache(cache, REPOSITORY, folder)
    assert digest(f"timm:arch={VIT}") != first  # the commit
    assert dependency_versions(type(build(f"timm:arch={VIT}"))) == {"timm": timm.__version__}


def wrong_classes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_classes": 10}))


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def no_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def truncated(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:1000])


def a_layer_less(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    del state["blocks.0.norm1.bias"]
    save_file(state, folder / "model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (wrong_classes, "config.json says num_classes 10, but the weights are for 1000"),
        (pickled, "has only pickled weights (pytorch_model.bin), which could run code; save model.safetensors"),
        (no_config, "has no config.json; it must have the files of a repository of the hub"),
        (truncated, "are not readable as safetensors"),
        (a_layer_less, f"does not hold weights of {VIT} (RuntimeError: Error(s) in loading state_dict"),
    ],
)
def test_an_unusable_folder_is_a_one_line_error(
    call: Callable[..., Any],
    network: tuple[Path, torch.nn.Module],
    tmp_path: Path,
    change: Callable[[Path], None],
    message: str,
) -> None:
    shutil.copytree(network[0], tmp_path / "net")
    change(tmp_path / "net")
    called = call(*WORDS, f"timm:arch={VIT},checkpoint={tmp_path / 'net'}")
    assert called.code == 2
    assert message in called.error_line()


WORDS = ("matrix", "--datasets", "cifar10-20", "--attacks", "fgsm", "--models")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("arch=vit_tiny_patch16_24", "timm has no such architecture; did you mean 'vit_tiny_patch16_224'?"),
        (f"arch={VIT}.in22k", "timm has no weights 'in22k' of test_vit; it has r160_in1k"),
        ("arch=test_mambaout", "timm has no weights of it; give checkpoint=FILE or a folder"),
        (f"arch={VIT},checkpoint=nowhere", "checkpoint=nowhere: no such file or folder"),
        (f"arch={VIT}", f"HF_HUB_OFFLINE is set; run 'hf download {REPOSITORY}' with a network"),
        ("arch=test_resnet,checkpoint=VIT", f"holds weights of {VIT}; give arch={VIT}"),
        ("arch=test_resnet,checkpoint=VIT/model.safetensors", "has no fc.weight, so it does not hold weights of"),
    ],
)
def test_unusable_input_is_a_one_line_error(
    call: Callable[..., Any], network: tuple[Path, torch.nn.Module], cache: Path, given: str, message: str
) -> None:
    called = call(*WORDS, f"timm:{given.replace('VIT', str(network[0]))}")
    assert called.code == 2
    assert message in called.error_line()


def test_a_missing_package_is_a_one_line_error(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    called = call(*WORDS, f"timm:arch={VIT}")
    assert called.code == 2
    assert "needs timm; install it with: pip install 'advbench[timm]'" in called.error_line()
