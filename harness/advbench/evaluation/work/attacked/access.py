"""What an attack gets of a classifier's answers: no more than the access that it declares."""

from __future__ import annotations

import torch

from advbench.api import Access, ClassifierWrapper
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
        return self._restricted(self._answer(self.target, images))

    def _check_access(self) -> None:
        if self.access == "nothing":
            raise ContractError(
                f"{self.attack} called the model, but declares access = 'nothing'; declare what it needs: 'labels', "
                "'scores' or 'gradients'"
            )

    def _answer(self, target: torch.nn.Module, images: torch.Tensor) -> torch.Tensor:
        """The answer of the classifier, or of the part of it for some samples."""
        version = images._version
        with blamed(self.label), torch.set_grad_enabled(torch.is_grad_enabled() and self.access == "gradients"):
            logits: torch.Tensor = target(images)
        if images._version != version:
            raise ContractError(f"{self.label} changed its input images in place; components work on a copy")
        return logits

    def _restricted(self, logits: torch.Tensor) -> torch.Tensor:
        """What the attack gets of the logits."""
        if self.access == "gradients" or not isinstance(logits, torch.Tensor) or logits.ndim != 2:
            return logits
        if self.access == "scores":
            return logits.detach()
        return torch.nn.functional.one_hot(logits.argmax(dim=1), logits.shape[1]).to(torch.float32)
