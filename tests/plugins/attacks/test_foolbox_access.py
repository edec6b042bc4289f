"""What each of Foolbox's attacks asks of the model, by which findings and refusals go."""

from __future__ import annotations

import pytest

from advbench_attacks.foolbox.attack import FoolboxAttack


@pytest.mark.parametrize(
    ("attack", "access"),
    [
        ("BoundaryAttack", "labels"),
        ("HopSkipJumpAttack", "labels"),
        ("SaltAndPepperNoiseAttack", "labels"),
        ("L2RepeatedAdditiveGaussianNoiseAttack", "labels"),
        ("L2AdditiveGaussianNoiseAttack", "nothing"),
        ("LinfPGD", "gradients"),
        ("NewtonFoolAttack", "gradients"),
        ("L2DeepFoolAttack", "gradients"),
    ],
)
def test_attacks_declare_their_access(attack: str, access: str) -> None:
    eps = 0.1 if "Additive" in attack or attack == "LinfPGD" else None
    assert FoolboxAttack(attack, eps).access == access
