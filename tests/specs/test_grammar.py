"""Parsing, expanding and formatting specs."""

from __future__ import annotations

import pytest

from advbench.discovery.loading import discover
from advbench.discovery.registry import Registry
from advbench.errors import SpecError, UnknownNameError, UsageError
from advbench.specs import (
    expand,
    full_spec,
    parse_chain,
    resolve,
    resolve_chain,
    resolve_one,
    select,
    short_spec,
    split_alias,
)


@pytest.fixture(scope="module")
def registry() -> Registry:
    return discover()


def test_a_chain_is_parsed_from_left_to_right() -> None:
    assert [term.name for term in parse_chain("jpeg:quality=75+tvm+kmeans:clusters=4")] == ["jpeg", "tvm", "kmeans"]


def test_a_plus_in_an_exponent_does_not_start_a_chain() -> None:
    terms = parse_chain("a:x=1e+3,y=2+b")
    assert [(term.name, term.items) for term in terms] == [("a", (("x", ("1e+3",)), ("y", ("2",)))), ("b", ())]


def test_spaces_between_the_parts_of_a_spec_are_ignored() -> None:
    spaced = ' jpeg : quality = 75 + pgd:eps = { 0.1, 1e+3 } , steps=5 +m:weights= "a b" '
    assert parse_chain(spaced) == parse_chain('jpeg:quality=75+pgd:eps={0.1,1e+3},steps=5+m:weights="a b"')


def test_sweeps_are_combined_with_the_last_varying_fastest() -> None:
    combinations = [tuple(given.values()) for ((_, given),) in expand(parse_chain("pgd:eps={0.1,8/255},steps={5,10}"))]
    assert combinations == [("0.1", "5"), ("0.1", "10"), ("8/255", "5"), ("8/255", "10")]


def test_quoted_values_may_contain_any_character() -> None:
    assert parse_chain(r'm:weights="a,b{c}+\"d\"\\e"')[0].items == (("weights", (r'a,b{c}+"d"\e',)),)


@pytest.mark.parametrize(
    "text",
    ["", "jpeg:", "jpeg:quality", "jpeg:quality=", "jpeg:quality=1,", "jpeg:quality={1,2", "jpeg+", "+jpeg",
     "jpeg:quality=1,quality=2", "jpeg quality=3", "8jpeg", "jpeg:quality={}", 'jpeg:quality="a'],
)  # fmt: skip
def test_the_error_of_a_malformed_spec_quotes_it_in_one_line(text: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_chain(text)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("attacks", "fgsm:eps=8/255"),
        ("attacks", "pgd:eps=0.3,steps=40,step_size=0.01,random_start=false"),
        ("attacks", "cw:confidence=1e-3"),
        ("attacks", "foolbox:attack=L2PGD,eps=0.5"),
        ("models", 'mnist-cnn:weights="odd, name+{1}.safetensors"'),
        ("datasets", "mnist:split=all"),
    ],
)
def test_parsing_full_and_short_specs_gives_the_same_component(registry: Registry, kind: str, text: str) -> None:
    component = resolve_one(registry, kind, text)
    assert resolve_one(registry, kind, full_spec(component)) == component
    assert resolve_one(registry, kind, short_spec(component)) == component


def test_a_chain_with_a_sweep_becomes_several_chains(registry: Registry) -> None:
    chains = resolve_chain(registry, "jpeg:quality={50,90}+gaussian")
    assert [short_spec(chain) for chain in chains] == ["jpeg:quality=50+gaussian", "jpeg:quality=90+gaussian"]
    assert resolve_chain(registry, full_spec(chains[0])) == [chains[0]]


def test_only_defenses_can_be_chained(registry: Registry) -> None:
    with pytest.raises(SpecError, match="only defenses"):
        resolve(registry, "attacks", "fgsm+pgd")


def test_the_error_of_an_unknown_name_suggests_the_nearest(registry: Registry) -> None:
    with pytest.raises(UnknownNameError, match="unknown defense 'jpg'; did you mean 'jpeg'"):
        resolve_chain(registry, "none+jpg")


def test_two_specs_that_are_equal_after_defaults_are_an_error(registry: Registry) -> None:
    same = r"'fgsm' and 'fgsm:eps=3e-1' are the same after defaults \(fgsm:eps=0.3,search=none,engine=native,norm="
    with pytest.raises(UsageError, match=same):
        select(registry, "attacks", ["fgsm", "pgd", "fgsm:eps=3e-1"])
    with pytest.raises(UsageError, match="are the same"):
        select(registry, "attacks", ["fgsm:eps={0.1,0.1}"])


@pytest.mark.parametrize(
    ("text", "alias", "spec"),
    [
        ("mine=torch-module:build=net.py:Net,args=a=1", "mine", "torch-module:build=net.py:Net,args=a=1"),
        ("both=jpeg+tvm", "both", "jpeg+tvm"),
        ("pgd:eps=0.3", "", "pgd:eps=0.3"),
        ("jpeg:quality=50+tvm:weight=1", "", "jpeg:quality=50+tvm:weight=1"),
        ("tvm+jpeg:quality=50", "", "tvm+jpeg:quality=50"),
        ("my net=jpeg", "", "my net=jpeg"),
        ("a+b=jpeg", "", "a+b=jpeg"),
    ],
)
def test_an_alias_ends_at_an_equals_sign_before_any_colon(text: str, alias: str, spec: str) -> None:
    assert split_alias(text) == (alias, spec)
