"""Claims about the adversarial images themselves: 21."""

from __future__ import annotations

from advbench_studies.paper2019.claim import MNIST, MOST, claim, setting
from advbench_studies.paper2019.evidence import View
from advbench_studies.paper2019.setting import ATTACKS, AttackSetting
from advbench_studies.paper2019.verdict import FEW, Check, Reading, at_least, check, per_cent

__all__ = ["IMAGE_CLAIMS"]


@claim(
    21,
    "What JPEG leaves misclassified often has pixels at 0 or 255.",
    "The measure of an image is the share of its pixels that the attack moved to 0 or 255, in 8 bits; pixels that were "
    "there before do not count. Of the MNIST images that fool the undefended model, those that JPEG leaves "
    "misclassified have a higher mean than those that it recovers, against at least three of the four attacks. If an "
    f"attack leaves or loses at most {FEW} images, it decides nothing.",
    not_adaptive="JPEG recovers no image of an attack on JPEG and the model together, which leaves nothing to compare.",
)
def jpeg_leaves_black_and_white(view: View) -> list[Check]:
    """Claim 21."""
    single = [_of_attack(view, attack) for attack in ATTACKS]
    return [at_least(MOST, view.title(MNIST), "attacks that moved more pixels of the images that JPEG leaves:", single)]


def _of_attack(view: View, attack: AttackSetting) -> Check:
    """Whether the images that stay misclassified have more moved pixels than the others."""
    import numpy as np

    title, name = view.title(MNIST), view.attack_title(MNIST, attack)
    component, wanted = setting(MNIST, "jpeg")
    accuracy = view.reading(MNIST, attack, component, wanted)
    outcomes = view.outcomes(MNIST, attack, component, wanted)
    moved = None if outcomes is None else view.moved_to_bounds(MNIST, attack, component, wanted)
    if outcomes is None or moved is None:
        missing = accuracy.missing or f"adversarial images of {attack.title} on {MNIST.title}"
        return Check(title, name, "", None, missing=(missing,))
    fools = ~np.isnan(outcomes.l2)
    groups = [fools & (outcomes.robust == 0), fools & (outcomes.robust > 0)]
    left, recovered = (int(group.sum()) for group in groups)
    if min(left, recovered) <= FEW:
        few = (accuracy.too_few,) if accuracy.too_few else ()
        return Check(title, name, f"{left} left, {recovered} recovered", False, 0.0, decided=False, too_few=few)
    weights = outcomes.weights()
    readings = []
    for group in groups:
        shares = (weights @ (group * moved)) / np.maximum(weights @ group, 1)
        readings.append(Reading(float(moved[group].mean()), "", shares.tolist(), None, accuracy.too_few))
    return check(
        title,
        name,
        readings,
        lambda high, low: (high - low, f"{per_cent(high)} in {left} left, {per_cent(low)} in {recovered} recovered"),
        strictly=True,
    )


IMAGE_CLAIMS = (jpeg_leaves_black_and_white,)
