"""Image classifiers of transformers, from folders and caches in the layout of the Hugging Face hub."""

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
import transformers
from safetensors.torch import load_file, save_file
from tests.plugins.models.folders import COMMIT, hf_folder, hf_vit, hub_cache, photograph, pixels, resnet_processor

from advbench.api import UsageError
from advbench.discovery.identity import dependency_versions
from advbench.discovery.loading import discover
from advbench.specs import resolve_one

pytestmark = pytest.mark.slow

WORDS = ("matrix", "--datasets", "cifar10-20", "--attacks", "fgsm", "--models")


def build(spec: str) -> Any:
    return resolve_one(discover(), "models", spec)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.nn.Module]:
    folder = tmp_path_factory.mktemp("hub") / "resnet"
    return folder, hf_folder(folder)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "cache"


def own_logits(network: torch.nn.Module, processor: Any, picture: Any) -> torch.Tensor:
    """What a model card says to do with a picture."""
    with torch.no_grad():
        logits: torch.Tensor = network(**processor(images=picture, return_tensors="pt")).logits
    return logits


def test_a_folder_gives_the_logits_of_the_librarys_own_pipeline(network: tuple[Path, torch.nn.Module]) -> None:
    folder, own = network
    model = build(f"hf:repo={folder}")
    assert (model.num_classes, model.image_shape, model.gives) == (5, None, "gradients")
    loaded, processor = model.load().eval(), resnet_processor()
    picture = photograph(256, 256)  # the processor would resize to this: the crop and the normalisation remain
    with torch.no_grad():
        assert torch.allclose(loaded(pixels(picture)), own_logits(own, processor, picture), atol=1e-5)
        for size in ((400, 301), (32, 32)):  # here the processor rounds the resized picture to 8 bits
            picture = photograph(*size)
            expected = own_logits(own, processor, picture)
            assert (loaded(pixels(picture)) - expected).abs().max() < 0.02 * expected.std()


PROCESSORS = {
    "vit": ({}, (224, 224)),
    "deit": ({}, (256, 256)),
    "bit": ({}, (224, 224)),
    "convnext": ({"size": {"shortest_edge": 384}}, (384, 384)),
    "poolformer": ({}, (248, 248)),
    "levit": ({}, (256, 256)),
    "efficientnet": ({"size": {"height": 96, "width": 112}}, (112, 96)),
    "mobilevit": ({"size": {"shortest_edge": 72}, "crop_size": {"height": 65, "width": 65}}, (72, 72)),
    "mobilenet_v2": ({}, (256, 256)),
    "siglip": ({}, (224, 224)),
}


@pytest.mark.parametrize("kind", PROCESSORS)
def test_processors_of_other_networks_become_a_part_of_the_network(
    network: tuple[Path, torch.nn.Module], tmp_path: Path, kind: str
) -> None:
    options, size = PROCESSORS[kind]
    mapping = transformers.models.auto.image_processing_auto.IMAGE_PROCESSOR_MAPPING
    config = transformers.AutoConfig.for_model(kind)
    kinds = mapping[type(config)]
    processor = (kinds.get("torchvision") if isinstance(kinds, dict) else kinds[-1] or kinds[0])(**options)
    shutil.copytree(network[0], tmp_path / "net")
    processor.save_pretrained(tmp_path / "net")
    loaded = build(f"hf:repo={tmp_path / 'net'},resize=always").load().eval()
    picture = photograph(*size)  # no resizing is left to do
    with torch.no_grad():
        logits = loaded(pixels(picture))
    assert torch.allclose(logits, own_logits(network[1], processor, picture), atol=1e-5)


def test_a_processor_that_crops_before_it_resizes_is_refused(
    network: tuple[Path, torch.nn.Module], tmp_path: Path
) -> None:
    shutil.copytree(network[0], tmp_path / "net")
    transformers.PerceiverImageProcessor().save_pretrained(tmp_path / "net")
    with pytest.raises(UsageError, match="cannot be made a part of the network"):
        build(f"hf:repo={tmp_path / 'net'}").weights_digest()


def test_a_repository_is_taken_from_the_hubs_cache(network: tuple[Path, torch.nn.Module], cache: Path) -> None:
    folder, own = network
    hub_cache(cache, "organisation/net", folder)
    picture = photograph(256, 256)
    expected = own_logits(own, resnet_processor(), picture)
    digests = set()
    for revision in ("", "@main", f"@{COMMIT}"):
        model = build(f"hf:repo=organisation/net{revision}")
        assert model._snapshot.commit == COMMIT
        digests.add(model.weights_digest())
        with torch.no_grad():
            assert torch.allclose(model.load().eval()(pixels(picture)), expected, atol=1e-5)
    assert len(digests) == 1
    local = build(f"hf:repo={folder}")
    assert local.weights_digest() not in digests  # the commit is a part of the others
    assert dependency_versions(type(local)) == {"timm": timm.__version__, "transformers": transformers.__version__}


def test_a_file_of_settings_is_a_part_of_the_digest(network: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    shutil.copytree(network[0], tmp_path / "net")
    first = build(f"hf:repo={tmp_path / 'net'}").weights_digest()
    assert build(f"hf:repo={network[0]}").weights_digest() == first
    transformers.ConvNextImageProcessor(size={"shortest_edge": 384}).save_pretrained(tmp_path / "net")
    assert build(f"hf:repo={tmp_path / 'net'}").weights_digest() != first


def test_weights_in_several_files_are_read(tmp_path: Path) -> None:
    own = hf_folder(tmp_path / "one")
    own.save_pretrained(tmp_path / "net", max_shard_size="5KB")
    resnet_processor().save_pretrained(tmp_path / "net")
    assert not (tmp_path / "net" / "model.safetensors").exists()
    model, picture = build(f"hf:repo={tmp_path / 'net'}"), photograph(256, 256)
    with torch.no_grad():
        logits = model.load().eval()(pixels(picture))
    assert torch.allclose(logits, own_logits(own, resnet_processor(), picture), atol=1e-5)
    model._snapshot.weights[0].unlink()
    with pytest.raises(UsageError, match="which its index names; download it again"):
        build(f"hf:repo={tmp_path / 'net'}").weights_digest()


@pytest.mark.parametrize("resize", ["auto", "never"])
def test_without_resizing_a_network_of_fixed_size_declares_it(
    network: tuple[Path, torch.nn.Module], tmp_path: Path, resize: str
) -> None:
    hf_vit(tmp_path / "vit")
    model = build(f"hf:repo={tmp_path / 'vit'},resize={resize}")
    assert model.image_shape == ((3, 32, 32) if resize == "never" else None)
    assert build(f"hf:repo={network[0]},resize={resize}").image_shape is None  # a ResNet takes any size


def test_a_first_class_called_background_is_left_out(network: tuple[Path, torch.nn.Module], tmp_path: Path) -> None:
    folder, own = network
    shutil.copytree(folder, tmp_path / "net")
    config = json.loads((folder / "config.json").read_text())
    names = ["background", "cat", "dog", "emu", "fox"]
    config["id2label"] = {str(number): name for number, name in enumerate(names)}
    config["label2id"] = {name: number for number, name in enumerate(names)}
    (tmp_path / "net" / "config.json").write_text(json.dumps(config))
    model, picture = build(f"hf:repo={tmp_path / 'net'}"), photograph(256, 256)
    assert model.num_classes == 4
    with torch.no_grad():
        logits = model.load().eval()(pixels(picture))
    assert torch.allclose(logits, own_logits(own, resnet_processor(), picture)[:, 1:], atol=1e-5)


def test_cells_of_images_of_another_size_are_skipped(call: Callable[..., Any], tmp_path: Path) -> None:
    hf_vit(tmp_path / "vit")
    called = call("matrix", "--datasets", "imagenet-20", "--limit", "1", "--attacks", "fgsm", "--models",
                  f"hf:repo={tmp_path / 'vit'},resize=never")  # fmt: skip
    assert (
        "takes images of (3, 32, 32), imagenet-20 has (3, 224, 224); with resize=auto, it resizes them"
        in called.out + called.err
    )


def test_a_grey_network_is_refused(call: Callable[..., Any], tmp_path: Path) -> None:
    hf_vit(tmp_path / "vit", num_channels=1)
    called = call(*WORDS, f"hf:repo={tmp_path / 'vit'}")
    assert called.code == 2
    assert "config.json says num_channels 1; hf takes networks of 3 channels only" in called.error_line()


def pickled(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def no_head(folder: Path) -> None:
    state = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in state.items() if "classifier" not in name}, folder / "model.safetensors")


def more_classes(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {str(number): f"{number}" for number in range(9)}
    config["label2id"] = {f"{number}": number for number in range(9)}
    (folder / "config.json").write_text(json.dumps(config))


def a_language_model(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))


def of_timm(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"architecture": "test_vit", "num_classes": 10}))


def no_processor(folder: Path) -> None:
    (folder / "preprocessor_config.json").unlink()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pickled, "has only pickled weights (pytorch_model.bin), which could run code; save model.safetensors"),
        (no_head, "describes: 2 missing, such as classifier.1.bias; save the whole classifier"),
        (more_classes, "describes: 2 of another shape, such as classifier.1.bias; save the whole classifier"),
        (a_language_model, "'gpt2' is no image classifier of transformers"),
        (of_timm, "use timm:arch=test_vit,checkpoint=FOLDER"),
        (no_processor, "has no preprocessor_config.json; save the image processor there, too"),
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
    called = call(*WORDS, f"hf:repo={tmp_path / 'net'}")
    assert called.code == 2
    assert message in called.error_line()


@pytest.mark.parametrize(
    ("repo", "message"),
    [
        ("./nowhere", "there is no folder nowhere"),
        ("a/b/c", "no such folder; give organisation/name, organisation/name@revision or a folder"),
        ("organisation/net@", "no such folder; give organisation/name, organisation/name@revision or a folder"),
        ("organisation/net@v2", "HF_HUB_OFFLINE is set; run 'hf download organisation/net --revision v2'"),
        ("organisation/no net", "Repo id must use alphanumeric chars"),
    ],
)
def test_unusable_input_is_a_one_line_error(call: Callable[..., Any], cache: Path, repo: str, message: str) -> None:
    called = call(*WORDS, f"hf:repo={repo}")
    assert called.code == 2
    assert message in called.error_line()


def test_a_missing_package_is_a_one_line_error(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "transformers", None)
    called = call(*WORDS, "hf:repo=organisation/net")
    assert called.code == 2
    assert "needs transformers; install it with: pip install 'advbench[hf]'" in called.error_line()
