"""The conformance kit: shipped components keep their contract, and violations are reported."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.testing import broken_plugin

from advbench.api import Defense, SampleRandom
from advbench.discovery.loading import discover
from advbench.testing import assert_conforms, check

pytestmark = pytest.mark.slow

PLUGIN = Path(__file__).with_name("broken_plugin.py")
REGISTRY = discover(files=[PLUGIN])

BUILT_IN = sorted(
    registered.component.name
    for kind in ("attacks", "defenses", "models", "datasets")
    for registered in REGISTRY.all(kind)
    if not registered.plugin.from_file
    and not any(parameter.required for parameter in registered.component.parameters())
)

BROKEN = {
    "broken-defense": {
        "shape": ("images of the same form", r"returned shape \(1, 1, 27, 28\); expected \(1, 1, 28, 28\)"),
        "dtype": ("images of the same form", "returned torch.float64; images are torch.float32"),
        "nan": ("images of the same form", "returned NaN or infinite pixels"),
        "scale": ("pixels in about [0, 1]", "pixels from 0 to 255"),
        "in-place": ("inputs unchanged", "changed its input images in place"),
        "unseeded": ("same random numbers, same images", "pixels that differ by up to"),
        "numpy": ("random numbers from rng alone", "global generator of numpy was drawn from or seeded"),
        "secretly-random": ("stochastic declared correctly", "stochastic is False, different images"),
        "claims-random": ("stochastic declared correctly", "stochastic is True, equal images"),
        "batch-mean": ("independent of its batch", "a difference of"),
        "claims-identity": ("identity declared correctly", "True, and pixels that differ"),
        "no-gradient": ("gradients are finite", "the result does not depend on them"),
        "zero-gradient": ("gradients are finite", "zero for every image"),
        "nan-gradient": ("gradients are finite", "NaN or infinite ones"),
        "stand-in-shape": ("gradients are finite", "returned shape"),
        "second-approximation": (
            "gradients of all approximations are finite",
            "approximation 2 of defense 'broken-defense': zero for every image",
        ),
        "no-approximations": (
            "gradients of all approximations are finite",
            r"returned \(\) from approximations\(\)",
        ),
        "changing-approximations": (
            "as many approximations at every call",
            r"defense 'broken-defense' returned \d functions from approximations\(\), and \d at an earlier call",
        ),
        "changes-output": (
            "gradients of all approximations are finite",
            "approximation 1 of defense 'broken-defense' changed its input defended images in place",
        ),
        "raises": ("images of the same form", "KeyError: 'something'"),
        "exits": ("images of the same form", "SystemExit: 3"),
        "new-digest": ("digest of the weights", "a different one at the second"),
        "process": ("images of the same form", "it changed torch's choice of deterministic algorithms"),
        "one-shape": (
            "images of the same form",
            r"^RuntimeError: The size .*, for images of shape \(3, 32, 32\), which the rule also tries; images of "
            r"shape \(1, 28, 28\) cause no error\. .* returns the reason from incompatibility\(image_shape\)$",
        ),
        "colour-only": ("images of the same form", r"for images of shape \(1, 28, 28\), which the rule also tries"),
        "bad-needs": ("needs declared correctly", "has needs = 'gradient'; expected one of gradients, scores"),
    },
    "broken-vote": {
        "nan": ("logits of the right form", r"returned NaN or infinite logits from classify\(\)"),
        "shares": ("votes declared correctly", "not log shares of 25 votes"),
        "in-place": ("inputs unchanged", "changed its input images in place"),
        "unseeded": ("same random numbers, same logits", "values that differ by up to"),
        "secretly-random": ("stochastic declared correctly", "stochastic is False, different logits"),
        "claims-random": ("stochastic declared correctly", "stochastic is True, equal logits"),
        "numpy": ("random numbers from rng alone", "global generator of numpy was drawn from or seeded"),
        "batch-mean": ("independent of its batch", "values that differ by up to"),
        "no-rows": ("samples named to the network", r"name the sample of each image with for_rows\(network, rows\)"),
        "claims-identity": ("identity declared correctly", "True, and values that differ"),
        "no-gradient": ("gradients are finite", r"returned logits without a gradient from attacked\(\)"),
        "negative-radius": ("certificates of the right form", "radii that are negative"),
        "unseeded-radius": ("same random numbers, same certificates", "different ones"),
        "batch-radius": ("certificates independent of their batch", "values that differ by up to"),
        "wide-radius": ("the class within the radius", "another class for . of 6 images that were moved by 0.95"),
        "few-logits": ("logits of the right form", r"^5 logits for each image: shape \(1, 5\)$"),
        "one-shape": ("logits of the right form", r"for images of shape \(3, 32, 32\), which the rule also tries"),
    },
    "broken-fit": {
        "no-artefact": ("a fit of the right form", r"defense 'broken-fit' returned NoneType from fit\(\)"),
        "unseeded-fit": ("the same data, the same fit", "another 'mean'"),
    },
    "broken-detector": {
        "column": ("suspicions of the right form", r"^suspicions of shape \(40, 1\)$"),
        "infinite": ("suspicions of the right form", "NaN or infinite ones"),
        "batch-suspicion": ("independent of its batch", "values that differ by up to"),
        "rejects-all": ("no more rejections than declared", "^40 rejected$"),
    },
    "broken-attack": {
        "over-budget": (
            "images in range and inside the perturbation set",
            "went 0.2 from the image in linf; its budget is 0.1",
        ),
        "range": ("images in range and inside the perturbation set", "returned pixels from"),
        "in-place": ("inputs unchanged", "changed its input images in place"),
        "changes-model": ("model unchanged", "changed weights"),
        "more-access": ("no more than its access", "does not require grad"),
        "blind": ("no more than its access", "called the model, but declares access = 'nothing'"),
        "unseeded": ("same random numbers, same images", "pixels that differ by up to"),
        "secretly-random": ("random numbers from rng alone", "global generator of torch was drawn from"),
        "batch": ("independent of its batch", "one of which is misclassified"),
        "labels": ("independent of other samples' labels", "images that differ by"),
        "weak": ("fools a linear classifier", "0 misclassified"),
        "moves-failures": ("returns clean images where it fails", "5 of 5 images changed"),
        "bad-norm": ("budget and norm", "has the minimized_norm 'l7'"),
        "bad-passes": ("budget and norm", "'many'"),
        "shape": ("images in range and inside the perturbation set", r"returned shape \(4, 1, 28, 28\)"),
        "bad-view": ("budget and norm", "expected whole numbers from 1"),
        "no-detectors": ("works behind a detector", "Boolean value of Tensor"),
        "unclamped": (
            "images in range and inside the perturbation set",
            r"returned pixels from -0\.1 to 1\.1, for images with pixels from 0 to 1; clamp the images that it returns "
            r"to \[0, 1\]",
        ),
        "brighter": ("images in range and inside the perturbation set", r"returned pixels from 0\.1 to 1\.1, .* clamp"),
    },
    "broken-model": {
        "probabilities": ("form of the logits", "returned probabilities"),
        "classes": ("form of the logits", r"returned shape \(1, 9\); expected \(1, 10\)"),
        "dropout": ("deterministic in eval mode", "a difference of"),
        "batch-norm": ("form of the logits", "a difference of|Expected more than 1 value"),
        "in-place": ("inputs unchanged", "changed images"),
        "detached": ("gradients are finite", "does not require grad"),
        "not-finite": ("form of the logits", "returned logits that are not finite"),
        "raw-pixels": ("classifies its dataset", "% correct"),
        "new-weights": ("the same weights at every load", "different ones from the second"),
        "new-digest": ("digest of the weights", "a different one at the second"),
        "no-network": ("load returns a network", "a int"),
        "float-classes": ("certificates of the right form", "certified classes that are no int64 tensor"),
        "new-radii": ("same random numbers, same certificates", "different ones"),
        "bad-gives": ("gives declared correctly", "has gives = 'gradient'; expected one of gradients, scores"),
    },
    "patterns": {
        "ids-descend": ("sample ids", r"\[5999, 5998"),
        "ids-twice": ("sample ids", r"\[0, 0, 1"),
        "range": ("form of images, labels and ids", r"pixels from .* to .*; expected \[0, 1\]"),
        "labels": ("form of images, labels and ids", "labels outside 0 to 9"),
        "dtype": ("form of images, labels and ids", "images of torch.float64"),
        "shuffled": ("reproducible", "different ones at the second"),
        "new-digest": ("digest", "a different one at the second"),
        "few-names": ("class names", "expected 10 names|2"),
        "no-names": ("class names", "'abcdefghij'"),
    },
}


SHORTER = {"defense-gan": "defense-gan:L=20,R=2"}
"""Specs of components whose defaults would take a minute, with fewer steps of the same code."""


@pytest.mark.parametrize("name", BUILT_IN)
def test_shipped_components_keep_their_contract(name: str) -> None:
    assert_conforms(SHORTER.get(name, name))


@pytest.mark.parametrize(
    ("spec", "rule", "seen"),
    [(f"{name}:how={how}", *case) for name, cases in BROKEN.items() for how, case in cases.items()],
)
def test_each_violation_is_reported_with_its_reason(spec: str, rule: str, seen: str) -> None:
    broken = {finding.rule: finding for finding in check(spec, registry=REGISTRY) if finding.passed is False}
    assert rule in broken, list(broken)
    finding = broken[rule]
    assert re.search(seen, finding.seen), finding.seen
    assert finding.expected
    kind = spec.removeprefix("broken-").partition(":")[0].title().replace("Patterns", "Dataset")
    kind = {"Vote": "Defense", "Fit": "Defense"}.get(kind, kind)
    assert finding.contract.startswith(f"advbench.api.{kind}")


def test_every_broken_component_has_a_case() -> None:
    assert list(BROKEN["broken-defense"]) == list(broken_plugin.DEFENSES)
    assert list(BROKEN["broken-vote"]) == list(broken_plugin.VOTES)
    assert list(BROKEN["broken-detector"]) == list(broken_plugin.DETECTORS)
    assert list(BROKEN["broken-fit"]) == list(broken_plugin.FITS)
    assert list(BROKEN["broken-attack"]) == list(broken_plugin.ATTACKS)
    assert list(BROKEN["broken-model"]) == list(broken_plugin.MODELS)
    assert list(BROKEN["patterns"]) == list(broken_plugin.DATASETS)


def test_a_fit_that_nothing_uses_is_reported() -> None:
    (finding,) = [one for one in check("unused-fit", registry=REGISTRY) if one.passed is False]
    assert finding.rule == "fitted only if it classifies"
    assert finding.contract.startswith("advbench.api.Defense.fit")


def test_correct_components_pass() -> None:
    assert_conforms("patterns", registry=REGISTRY)
    assert_conforms("broken-model:how=nothing", registry=REGISTRY)


def test_assert_conforms_names_every_violated_rule() -> None:
    with pytest.raises(AssertionError) as raised:
        assert_conforms(broken_plugin.BrokenDefense("in-place"))
    message = str(raised.value)
    assert message.startswith("broken-defense breaks its contract:")
    assert "FAIL  inputs unchanged: expected images that are not changed in place; seen: " in message
    assert "(contract: advbench.api.Defense.apply)" in message


def test_one_cause_is_reported_once_with_its_line() -> None:
    findings = check("broken-defense:how=raises", registry=REGISTRY)
    (broken,) = [finding for finding in findings if finding.passed is False]
    assert re.fullmatch(r"KeyError: 'something' \(broken_plugin\.py:[0-9]+\)", broken.seen)
    same = [finding for finding in findings if "for the cause reported under" in finding.seen]
    assert len(same) > 3
    assert all(repr(broken.rule) in finding.seen for finding in same)


@pytest.mark.parametrize("name", ["broken-defense", "broken-vote"])
def test_a_defense_for_one_shape_is_reported_once(name: str) -> None:
    (broken,) = [one for one in check(f"{name}:how=one-shape", registry=REGISTRY) if one.passed is False]
    assert "images of shape (1, 28, 28) cause no error" in broken.seen


def test_components_without_pickling_round_trip_or_docstring_fail() -> None:
    @dataclasses.dataclass(frozen=True)
    class Local(Defense):
        name = "local"
        factor: float = 1.0

        def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
            return images

        @classmethod
        def from_values(cls, values: Any) -> Any:
            return cls()

    broken = {finding.rule: finding for finding in check(Local(0.5)) if finding.passed is False}
    assert set(broken) == {"parameters round-trip", "picklable", "described"}
    assert "local:factor=0.5" in broken["parameters round-trip"].expected


def test_the_command_check_prints_the_findings(call: Callable[..., Any]) -> None:
    kept = call("check", "jpeg:quality=50", "--all-rules")
    assert kept.code == 0
    assert "ok    inputs unchanged" in kept.out
    assert "it keeps the contract" in kept.out
    broken = call("check", "--plugin", PLUGIN)
    assert broken.code == 1
    lines = [" ".join(line.split()) for line in broken.out.splitlines()]
    assert "seen defense 'broken-defense' returned shape (1, 1, 27, 28); expected (1, 1, 28, 28)" in lines
    assert "contract advbench.api.Defense.apply" in lines
    assert any(line.startswith("ok patterns") for line in lines)
    assert lines[-1] == "7 of 8 break the contract"
    refused = call("check", "jpg")
    assert refused.code == 2
    assert "did you mean 'jpeg'?" in refused.error_line()
    refused = call("check", "serial")
    assert refused.code == 2
    assert "no attack, defense, model or dataset" in refused.error_line()


def test_a_skipped_rule_gives_its_reason() -> None:
    skipped = {finding.rule: finding.seen for finding in check("pgd:eps=0.00001") if finding.passed is None}
    assert "is too small for this test" in skipped["fools a linear classifier"]
