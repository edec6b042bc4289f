"""The conformance kit on attacks with perturbation sets: each broken rule is reported once, with its reason."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from tests.testing import broken_sets_plugin

from advbench.discovery.loading import discover
from advbench.testing import assert_conforms, check

REGISTRY = discover(files=[Path(__file__).with_name("broken_sets_plugin.py")])

IMAGES, SET = "images in range and inside the perturbation set", "perturbation set"
BROKEN = {
    "outside-mask": (IMAGES, r"patch area ≤ 5 %, sample 0 .*: 1 pixel changed outside its mask, which covers 2.041 %"),
    "large-mask": (IMAGES, "patch area ≤ 1 %, sample 0 .*: its mask covers 2.041 % of the image"),
    "no-mask": (IMAGES, "returned no note 'mask'"),
    "mask-of-floats": (IMAGES, r"invalid note 'mask'; expected a bool tensor of shape \(5, 1, 28, 28\)"),
    "mask-of-channels": (IMAGES, "invalid note 'mask'"),
    "angle": (IMAGES, r"geometric ±5°, ±3 px, sample 0 .*: rotated by 10° and shifted by \(2, 0\) px"),
    "shift": (IMAGES, r"geometric ±15°, ±1 px, sample 0 .*: rotated by 10° and shifted by \(2, 0\) px"),
    "rendering": (IMAGES, "its pixels differ by up to 0.0509 from the rendered image"),
    "angles-of-integers": (IMAGES, r"invalid note 'angle'; expected finite floating-point numbers of shape \(5,\)"),
    "bits": (IMAGES, "corruption severity 1, sample 0 .* of a level away from the 256 levels of 8 bits"),
    "no-set": (SET, "has the perturbation set 'patch'; expected one of advbench.api"),
    "ball-by-itself": (SET, r"but budget\(\) and minimized_norm\(\) give LpBall"),
    "two-sets": (SET, "and the Lp ball 'L∞ ≤ 0.1'; an attack has one set"),
    "corruption-with-gradients": (SET, "its access is 'gradients'; a corruption does not use the model"),
    "lines": (SET, r"whose label\(\) is 'any\\nimage'; expected one line of text"),
    "too-large": (SET, "a patch of 1.5 of the image's area; give more than 0 and at most 1"),
    "sizes": (IMAGES, r"sizes\(\) of WrongSizes must return float64 tensors"),
    "other-size": (IMAGES, r"the first of sizes\(\) of OtherSize must be main_size\(\), 'colour'"),
}


@pytest.mark.parametrize("how", broken_sets_plugin.HOW)
def test_each_broken_rule_of_sets_is_reported_once_with_its_reason(how: str) -> None:
    rule, seen = BROKEN[how]
    broken = [finding for finding in check(f"broken-set:how={how}", registry=REGISTRY) if finding.passed is False]
    assert [finding.rule for finding in broken] == [rule], [str(finding) for finding in broken]
    assert re.search(seen, broken[0].seen), broken[0].seen
    assert "\n" not in broken[0].seen
    assert broken[0].contract.startswith("advbench.api.Attack")


@pytest.mark.parametrize("how", ["none", "geometric"])
def test_attacks_that_keep_their_sets_pass(how: str) -> None:
    assert_conforms(f"broken-set:how={how}", registry=REGISTRY)
