"""What the attacks of several files are held to alike."""

from __future__ import annotations

import pytest
import torch
from tests.plugins.attacks import (
    test_autoattack_parts,
    test_fab,
    test_fast_minimal_attacks,
    test_minimal_attacks,
    test_minimal_search,
)
from tests.plugins.attacks.classifiers import Constant, Undefined

pytestmark = pytest.mark.slow

FAB, QUICK = test_fab.ATTACKS, test_fast_minimal_attacks.ATTACKS
EXACT, SEARCHES, PARTS = test_minimal_attacks.ATTACKS, test_minimal_search.ATTACKS, test_autoattack_parts.ATTACKS


@pytest.mark.parametrize(
    ("attack", "tolerance"),
    [
        *((attack, 1e-5) for attack in (*EXACT, *QUICK)),
        # Of two points with the same loss, another batch's rounding may make either the higher.
        *((attack, 1e-3) for attack in (*FAB, *PARTS)),
    ],
    ids=str,
)
def test_a_samples_result_does_not_depend_on_its_batch(attack, tolerance, network, images, labels, streams):
    whole = attack.run(network, images, labels, streams(range(6)))
    parts = [attack.run(network, images[i], labels[i], streams(i.tolist())) for i in torch.arange(6).split([1, 3, 2])]
    torch.testing.assert_close(torch.cat(parts), whole, atol=tolerance, rtol=0)


@pytest.mark.parametrize("attack", [*FAB, *EXACT, *QUICK, *PARTS], ids=str)
def test_a_sample_that_is_misclassified_already_keeps_its_clean_image(attack, network, images, labels, streams):
    wrong = torch.tensor([False, True, False, False, True, False])
    labels = torch.where(wrong, (labels + 1) % 10, labels)
    crafted = attack.run(network, images, labels, streams(range(6)))
    assert torch.equal(crafted[wrong], images[wrong])
    assert (crafted[~wrong] != images[~wrong]).flatten(1).any(dim=1).all()


@pytest.mark.parametrize("attack", [*FAB, *EXACT, *QUICK, *SEARCHES], ids=str)
def test_a_classifier_that_cannot_be_fooled_leaves_the_clean_images(attack, images, streams):
    labels = torch.zeros(6, dtype=torch.int64)
    assert torch.equal(attack.run(Constant().eval(), images, labels, streams(range(6))), images)


@pytest.mark.parametrize("attack", [*FAB, *EXACT, *QUICK, *SEARCHES], ids=str)
def test_gradients_that_are_not_numbers_leave_the_clean_images(attack, images, streams):
    model = Undefined(images_only=attack not in EXACT).eval()
    labels = torch.full((6,), 4)  # not the first class, which torch finds the largest of logits that are no numbers
    assert torch.equal(attack.run(model, images, labels, streams(range(6))), images)
