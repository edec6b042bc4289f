from __future__ import annotations

import subprocess
import sys

import pytest

from advbench.api import Attack
from advbench_attacks import plugin
from advbench_attacks.corruptions.corruption import CommonCorruption

USE_FOOLBOX = {"cw", "deepfool", "fgsm", "foolbox", "pgd"}
SHARED_NAMES = {
    *("eps", "max_eps", "norm", "search", "steps", "step_size", "random_start", "restarts", "early_stop", "loss"),
    *("search_steps", "learning_rate", "initial_const", "confidence", "candidates", "overshoot"),
    *("targets", "queries", "engine", "kind", "version", "variant", "batch", "reduction", "goal", "of"),
    *("max_angle", "max_shift", "angles", "shifts", "interpolation", "padding", "severity"),
    *("area", "shape", "position", "min_scale", "file", "attack", "draws", "stand_ins"),
}


def registered() -> dict[str, type[Attack]]:
    found: list[type[Attack]] = []
    plugin.register_attacks(found.append)
    return {attack.name: attack for attack in found}


def test_the_plugin_registers_each_attack_under_its_own_name():
    corruptions = {name for name, attack in registered().items() if issubclass(attack, CommonCorruption)}
    assert corruptions == {
        *("brightness", "contrast", "defocus-blur", "elastic-transform", "fog", "gaussian-blur", "gaussian-noise"),
        *("glass-blur", "impulse-noise", "jpeg-compression", "motion-blur", "pixelate", "saturate", "shot-noise"),
        *("speckle-noise", "zoom-blur"),
    }
    assert sorted(registered().keys() - corruptions) == [
        *(
            "apgd",
            "apgd-t",
            "autoattack",
            "cw",
            "ddn",
            "deepfool",
            "fab-t",
            "fgsm",
            "fmn",
            "foolbox",
            "graffiti",
            "noise",
        ),
        *("patch", "pgd", "rays", "rotate-shift", "square", "with-view", "worst-of"),
    ]


@pytest.mark.slow
def test_importing_the_plugin_does_not_import_foolbox():
    code = "import sys, advbench_attacks.plugin; sys.exit(any(m in sys.modules for m in ('foolbox', 'eagerpy')))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", sorted(registered()))
def test_attacks_have_a_summary_a_source_and_parameter_help(name):
    attack = registered()[name]
    assert attack.summary()
    assert attack.source
    assert all(parameter.help for parameter in attack.parameters())


@pytest.mark.parametrize("name", sorted(registered()))
def test_only_attacks_with_a_foolbox_engine_depend_on_it(name):
    assert ("foolbox" in registered()[name].depends_on) == (name in USE_FOOLBOX)


@pytest.mark.parametrize("name", sorted(set(registered()) - {"foolbox"}))
def test_parameters_have_the_names_that_all_attacks_share(name):
    assert {parameter.name for parameter in registered()[name].parameters()} <= SHARED_NAMES


@pytest.mark.parametrize(
    ("name", "given", "passes"),
    [
        ("fgsm", {}, 1),
        ("pgd", {"steps": "7"}, 7),
        ("pgd", {"steps": "7", "restarts": "3"}, 21),
        ("fgsm", {"search": "minimal"}, 70),
        ("pgd", {"search": "minimal", "targets": "5"}, 40 * 10),
        ("pgd", {"search": "minimal"}, 40 * 8),
        ("pgd", {"search": "minimal", "steps": "100", "search_steps": "1"}, 100 * 6),
        ("deepfool", {"steps": "3", "candidates": "4"}, 4 + 6),
        ("deepfool", {"steps": "3", "candidates": "4", "engine": "foolbox"}, 12),
        ("cw", {"search_steps": "2", "steps": "30"}, 12),
        ("cw", {"search_steps": "2", "steps": "30", "engine": "foolbox"}, 60),
        ("ddn", {"steps": "7"}, 7),
        ("fmn", {"steps": "7", "norm": "l1"}, 7),
        ("apgd", {"steps": "7", "restarts": "2"}, 14),
        ("apgd-t", {"steps": "7", "targets": "3"}, 21),
        ("fab-t", {"steps": "30", "targets": "2"}, 80),
        ("square", {"queries": "300"}, 100),
        ("autoattack", {}, 100 + 900 + 1200 + 1666),
        ("autoattack", {"version": "rand", "steps": "7"}, 14),
        ("noise", {}, 0),
        ("noise", {"queries": "31"}, 10),
        ("foolbox", {"attack": "L2DeepFoolAttack"}, None),
    ],
)
def test_an_attack_estimates_its_passes(name, given, passes):
    assert registered()[name].from_text(given).passes() == passes
