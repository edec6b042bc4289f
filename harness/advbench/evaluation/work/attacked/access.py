"""What an attack gets of a classifier's answers: no more than the access that it declares."""

from __future__ import annotations

import torch

from advbench.api import Access, Answer, ClassifierWrapper, answer
from advbench.contracts.access import restricted, restricted_score
from advbench.errors import ContractError, blamed

__all__ = ["RestrictedClassifier"]


class RestrictedClassifier(ClassifierWrapper):
    """A classifier that answers with no more than an attack's access, and is blamed for its own errors.

    Args:
        target: The classifier.
        label: What messages call the model.
        attack: What messages call the attack.
        access: What the attack may get: ``gradients`` is everything, ``scores`` logits without a gradient, ``labels``
            the one-hot predicted class in float32, ``nothing`` no answer.
    """

    def __init__(self, target: torch.nn.Module, label: str, *, attack: str, access: Access) -> None:
        super().__init__(target)
        self.label = label
        self.attack = attack
        self.access = access

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """The classifier's logits, restricted to the access.

        Raises:
            ContractError: The classifier changed the images; or the attack has access to nothing.
        """
        self._check_access()
        return self._restricted(self._answer(self.target, images).logits)

    def full_answer(self, images: torch.Tensor) -> Answer:
        """The classifier's full answer, restricted to the access; see :func:`advbench.api.answer`.

        Raises:
            ContractError: As for :meth:`forward`.
        """
        self._check_access()
        return self._restricted_answer(self._answer(self.target, images, full=True))

    def _check_access(self) -> None:
        if self.access == "nothing":
            restricted(self.attack, self.access, torch.empty(0))  # raises

    def _answer(self, target: torch.nn.Module, images: torch.Tensor, *, full: bool = False) -> Answer:
        """The logits, or the full answer, of the classifier or of the part of it for some samples."""
        version = images._version
        with blamed(self.label), torch.set_grad_enabled(torch.is_grad_enabled() and self.access == "gradients"):
            answered = answer(target, images) if full else Answer(target(images))
        if images._version != version:
            raise ContractError(f"{self.label} changed its input images in place; it must work on a copy")
        return answered

    def _restricted_answer(self, answered: Answer) -> Answer:
        """What the attack gets of a full answer."""
        return Answer(self._restricted(answered.logits), restricted_score(self.access, answered.score))

    def _restricted(self, logits: torch.Tensor) -> torch.Tensor:
        """What the attack gets of the logits."""
        return restricted(self.attack, self.access, logits)
