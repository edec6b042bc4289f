"""``advbench matrix`` on real digits, a real trained model, real attacks and defenses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from tests.conftest import Called

from advbench.api import DataSources, Model
from advbench.discovery.loading import discover
from advbench.evaluation.plan.samples import pick_ids
from advbench.specs import resolve_one
from advbench.store import Store
from advbench_attacks.foolbox import engine as foolbox_engine

pytestmark = pytest.mark.slow

foolbox = foolbox_engine.load()  # without the warnings that its own imports cause

N = 60
ATTACKS = ["fgsm:eps=0.1", "pgd:eps=0.1,steps=10,random_start=false", "deepfool:steps=20"]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The store and the results of one small matrix."""
    from advbench.cli.main import main

    folder = tmp_path_factory.mktemp("real")
    words = [
        *("matrix", "--datasets", "mnist-5k", "--models", "mnist-cnn", "--attacks", *ATTACKS),
        *("--defenses", "none", "jpeg:quality=90", "gaussian", "kmeans", "tvm", "jpeg+tvm"),
        *("--limit", str(N), "--seed", "0", "--store", str(folder / "store"), "--export", str(folder / "r.json")),
        *("--export", str(folder / "r.md"), "--batch-size", str(N)),
    ]
    assert main(words) == 0
    return folder, json.loads((folder / "r.json").read_text())


def value(results: dict[str, Any], attack: str, defense: str, key: str) -> float:
    (cell,) = [
        cell
        for cell in results["cells"]
        if cell["attack"].split(":")[0] == attack and cell["short"]["defense"] == defense
    ]
    return cell[key]  # type: ignore[no-any-return]


def test_all_cells_are_ok_with_the_numbers_that_the_field_knows(run: tuple[Path, dict[str, Any]]) -> None:
    _, results = run
    assert [cell["status"] for cell in results["cells"]] == ["ok"] * 18
    assert value(results, "fgsm", "none", "clean_accuracy") >= 0.96
    assert 0.6 <= value(results, "fgsm", "none", "robust_accuracy") <= 0.95
    assert value(results, "deepfool", "none", "robust_accuracy") == 0
    assert value(results, "deepfool", "jpeg:quality=90", "robust_accuracy") >= 0.85
    assert value(results, "pgd", "none", "median_linf") == pytest.approx(0.1, abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "by_hand"),
    [
        (ATTACKS[0], foolbox.attacks.LinfFastGradientAttack(random_start=False)),
        (ATTACKS[1], foolbox.attacks.LinfPGD(steps=10, rel_stepsize=2.5 / 10, random_start=False)),
    ],
    ids=["fgsm", "pgd"],
)
def test_stored_images_equal_foolbox_called_by_hand_to_the_bit_where_the_model_is_not_sure(
    run: tuple[Path, dict[str, Any]], tmp_path: Path, spec: str, by_hand: Any
) -> None:
    folder, _ = run
    registry = discover()
    dataset = resolve_one(registry, "datasets", "mnist-5k")
    model = resolve_one(registry, "models", "mnist-cnn")
    assert isinstance(model, Model)
    ids = pick_ids(dataset, N, 0)  # type: ignore[arg-type]
    images, labels = dataset.load(DataSources(tmp_path)).take(ids)  # type: ignore[attr-defined]
    network = foolbox.PyTorchModel(model.load().eval(), bounds=(0, 1), device="cpu")
    _, expected, _ = by_hand(network, images, labels, epsilons=0.1)
    store = Store(folder / "store")
    keys = [path.stem for path in (folder / "store" / "adversarial").rglob("*.safetensors")]
    stored = [store.read_tensors(key) for key in keys]
    (found,) = [
        tensors["images"]
        for tensors, record in (entry for entry in stored if entry is not None)
        if record["attack"].startswith(spec.split(",", maxsplit=1)[0])
    ]
    # Where the model is sure, Foolbox's cross-entropy loses its gradient, and ours does not.
    with torch.no_grad():
        unsure = model.load().eval()(images).softmax(dim=1).gather(1, labels[:, None])[:, 0] < 1 - 2**-7
    assert unsure.any()
    assert torch.equal(found[unsure], expected[unsure])


def test_the_markdown_is_a_table_of_the_same_numbers(run: tuple[Path, dict[str, Any]]) -> None:
    folder, results = run
    lines = [line for line in (folder / "r.md").read_text().splitlines() if line.startswith("|")]
    assert len({line.count("|") for line in lines}) == 1
    jpeg = next(line for line in lines if line.startswith("| jpeg:quality=90 "))
    shown = f"{100 * value(results, 'deepfool', 'jpeg:quality=90', 'robust_accuracy'):.1f}"
    assert jpeg.split("|")[5].strip(" *") == shown


def test_the_readmes_defense_runs(call: Callable[..., Called], tmp_path: Path) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
    plugin = tmp_path / "dim.py"
    plugin.write_text(readme.split("```python\n# dim.py\n")[1].split("```")[0])
    command = next(line for line in readme.splitlines() if line.startswith("advbench matrix --plugin dim.py"))
    words = command.replace("dim.py", str(plugin)).split()[1:]
    called = call(*words, "--store", tmp_path / "store")
    assert called.code == 0, called.err
    assert "dim:factor=0.8" in called.out


def test_a_model_of_ones_own_weights_is_another_model(call: Callable[..., Called], tmp_path: Path) -> None:
    shipped = next(Path(__file__).parents[2].glob("plugins/models/advbench_models/weights/mnist-cnn.safetensors"))
    own = tmp_path / "own.safetensors"
    own.write_bytes(shipped.read_bytes())
    axes = ("--models", f"mnist-cnn:weights={own}", "--attacks", "fgsm", "--defenses", "none", "--limit", 5)
    called = call("matrix", *axes, "--store", tmp_path / "store")
    assert called.code == 2
    assert "own.json, which records the digest of the weights, is missing" in called.error_line()
    own.with_suffix(".json").write_bytes(shipped.with_suffix(".json").read_bytes())
    assert call("matrix", *axes, "--store", tmp_path / "store").code == 0


def test_foolboxs_images_are_the_ones_that_it_bundles(call: Callable[..., Called], tmp_path: Path) -> None:
    target = tmp_path / "r.json"
    axes = ("--datasets", "mnist-20", "--attacks", "foolbox:attack=L2PGD,eps=1", "--defenses", "none")
    assert call("matrix", *axes, "--store", tmp_path / "store", "--export", target).code == 0
    (cell,) = json.loads(target.read_text())["cells"]
    assert cell["n"] == 20
    (images,) = (tmp_path / "store" / "adversarial").rglob("*.safetensors")
    stored = Store(tmp_path / "store").read_tensors(images.stem)
    assert stored is not None
    folder = Path(foolbox.__file__).parent / "data"
    bundled = [np.asarray(Image.open(path)) for path in sorted(folder.glob("mnist_*.png"))]
    clean = torch.tensor(np.stack(bundled) / 255, dtype=torch.float32)[:, None]
    distance = (stored[0]["images"] - clean).flatten(1).norm(dim=1)
    assert float(distance.max()) <= 1 + 1e-5
