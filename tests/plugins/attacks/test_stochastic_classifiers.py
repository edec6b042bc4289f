"""Every attack says whose images it asks about, so that behind a stochastic defense neighbours change no sample."""

from __future__ import annotations

import pytest
import torch
from tests.plugins.attacks.classifiers import Noisy

from advbench_attacks.black_box.square import SquareAttack
from advbench_attacks.gradient.apgd import AutoPgd, TargetedAutoPgd
from advbench_attacks.gradient.fgsm import FastGradientSign
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from advbench_attacks.minimal.cw import CarliniWagnerL2
from advbench_attacks.minimal.ddn import DecoupledDirectionAndNorm
from advbench_attacks.minimal.deepfool import DeepFool
from advbench_attacks.minimal.fab import TargetedFab
from advbench_attacks.minimal.fmn import FastMinimumNorm

pytestmark = pytest.mark.slow

ATTACKS = [
    *(AutoPgd(0.2, norm, loss, steps=20) for norm in ("linf", "l2") for loss in ("ce", "dlr")),
    *(TargetedAutoPgd(0.2, norm, 2, steps=20) for norm in ("linf", "l2")),
    *(TargetedFab(norm, targets=3, steps=20) for norm in ("linf", "l2")),
    *(SquareAttack(0.2, norm, queries=60) for norm in ("linf", "l2")),
    FastGradientSign(0.2),
    ProjectedGradientDescent(0.2, steps=10),
    ProjectedGradientDescent(0.2, steps=10, early_stop=True),
    FastGradientSign(search="minimal"),
    ProjectedGradientDescent(search="minimal", steps=10),
    CarliniWagnerL2(search_steps=4, steps=40, learning_rate=0.05),
    DeepFool(),
    DecoupledDirectionAndNorm(40),
    *(FastMinimumNorm(norm, 40) for norm in ("linf", "l2", "l1")),
]


@pytest.mark.parametrize("attack", ATTACKS, ids=str)
def test_results_with_a_stochastic_classifier_do_not_depend_on_the_batch(attack, network, streams):
    images = torch.rand(20, 1, 6, 6, generator=torch.Generator().manual_seed(8))
    labels = network(images).argmax(dim=1)
    labels = labels.where(torch.arange(20) != 2, (labels + 1) % 10)  # one that takes no part

    def run(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The adversarial images, and the logits of a query after the attack, which depend on how many came before."""
        ids = rows.tolist()
        classifier = Noisy(network, streams(ids, 1))
        crafted = attack.run(classifier, images[rows], labels[rows], streams(ids))
        return crafted, classifier(images[rows])

    whole = run(torch.arange(20))
    parts = [run(rows) for rows in torch.arange(20).split([1, 6, 13])]
    for one, several in zip(whole, zip(*parts, strict=True), strict=True):
        torch.testing.assert_close(torch.cat(several), one, atol=1e-3, rtol=0)
