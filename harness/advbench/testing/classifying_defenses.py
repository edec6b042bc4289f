"""Contract rules of defenses that classify, and of certificates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from advbench.analysis.intervals import binomial_tail
from advbench.api import Answer, Certificate, Defense, SampleRandom
from advbench.contracts.defenses import check_classified, check_votes, count_votes
from advbench.contracts.images import check_unchanged
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier, count_approximations
from advbench.evaluation.work.chain_pass import ChainPass, image_shape
from advbench.testing.common import cuda
from advbench.testing.finding import Rule, RuleSkipped, contract_of, expect
from advbench.testing.fitted_defenses import fitted_pass
from advbench.testing.fixtures import CLASSES, Linear, example_images, forbid_global_generators
from advbench.testing.shapes import Shape, ShapeTrial, naming_shapes

__all__ = ["certificate_rules", "classifying_rules"]

_TOLERANCE = 1e-4
"""Allowed difference of a logit or a radius due to rounding, as a share of the largest one."""

_ALMOST = 0.95
"""The share of its radius by which an image is moved."""

_DRAWS = 10
_SIGNIFICANCE = 0.001
"""The probability, over all images, that a vote is blamed by chance."""


def classifying_rules(defense: Defense, shapes: Sequence[Shape]) -> Iterator[Rule]:
    """Yields the rules on logits, inputs, randomness, batches, gradients and devices."""
    trial = _Trial(defense, shapes)
    yield from naming_shapes(_classifying_rules(defense, trial), trial)


def _classifying_rules(defense: Defense, trial: _Trial) -> Iterator[Rule]:
    classify, attacked = contract_of(defense, "classify"), contract_of(defense, "attacked")
    form = "finite logits of shape (batch, classes)"
    yield Rule("logits of the right form", classify, trial.form, form)
    yield Rule("votes declared correctly", contract_of(defense, "votes"), trial.votes, "log shares of the votes")
    yield Rule("inputs unchanged", classify, trial.unchanged, "images that are not changed in place")
    yield Rule("same random numbers, same logits", classify, trial.reproducible)
    yield Rule("stochastic declared correctly", contract_of(defense, "stochastic"), trial.declares_randomness)
    yield Rule("random numbers from rng alone", classify, trial.no_global_randomness)
    yield Rule("independent of its batch", classify, trial.batches)
    yield Rule("samples named to the network", classify, trial.names_samples, "network(images), or for_rows")
    yield Rule("identity declared correctly", contract_of(defense, "identity"), trial.declares_identity)
    yield Rule("gradients are finite", attacked, trial.gradients, "finite gradients of what attacks see")
    yield Rule("on CUDA", classify, trial.on_cuda, form)


def certificate_rules(defense: Defense, shapes: Sequence[Shape]) -> Iterator[Rule]:
    """Yields the rules on certificates."""
    trial = _Trial(defense, shapes)
    yield from naming_shapes(_certificate_rules(defense, trial), trial)


def _certificate_rules(defense: Defense, trial: _Trial) -> Iterator[Rule]:
    where = contract_of(defense, "certify")
    yield Rule("certificates of the right form", where, trial.certificate_form, "classes, and radii of at least 0")
    yield Rule("same random numbers, same certificates", where, trial.certificates_reproducible)
    yield Rule("certificates independent of their batch", where, trial.certificate_batches)
    yield Rule("the class within the radius", where, trial.certificates_hold)


class _Jitter(Defense):
    """Random numbers inside of the tested defense, so that it must name the samples of its images."""

    name = "jitter"
    stochastic = True

    def apply(self, images: torch.Tensor, rng: SampleRandom) -> torch.Tensor:
        return images + 0.01 * rng.uniform(*images.shape[1:])


class _Trial(ShapeTrial):
    """A defense around a linear classifier."""

    def chain_pass(self, images: torch.Tensor, *inside: Defense, classes: int = CLASSES) -> ChainPass:
        network = Linear(image_shape(self.defense, images), classes).to(images.device).eval()
        _, channels, height, width = images.shape
        return fitted_pass(self.defense, network, example_images((channels, height, width)).to(images.device), *inside)

    @torch.no_grad()
    def classify(
        self, images: torch.Tensor, ids: Sequence[int], *inside: Defense, purpose: str = "check"
    ) -> torch.Tensor:
        rng = SampleRandom(0, purpose, ids, images.device)
        answer = self.chain_pass(images, *inside).answer(images, rng)
        return answer.logits if answer.score is None else torch.cat((answer.logits, answer.score[:, None]), dim=1)

    def form(self) -> None:
        for images in self.example_batches():
            for count in (1, 2, len(images)):
                logits = self.direct(images[:count]).logits
                seen = logits.shape[1]
                expect(
                    seen == CLASSES,
                    f"as many logits as the network has classes: shape ({count}, {CLASSES})",
                    f"{seen} logits for each image: shape ({count}, {seen})",
                )

    def votes(self) -> None:
        if self.defense.votes is None:
            raise RuleSkipped("its logits are not declared as votes")
        for images in self.example_batches():
            check_votes(self.defense, self.direct(images).logits)

    @torch.no_grad()
    def direct(self, images: torch.Tensor) -> Answer:
        """What the defense returns, of which the form alone is checked."""
        rng = SampleRandom(0, "check", range(len(images)), images.device)
        passed = self.chain_pass(images)
        returned = self.defense.classify(passed.inside(0, rng), images.clone(), rng, passed.fitted[0])
        return check_classified(self.defense.name, "classify", returned, images)

    def unchanged(self) -> None:
        for images in self.example_batches():
            given, passed = images.clone(), self.chain_pass(images)
            rng = SampleRandom(0, "check", range(len(images)), images.device)
            with torch.no_grad():
                self.defense.classify(passed.inside(0, rng), images, rng, passed.fitted[0])
                check_unchanged(f"defense {self.defense.name!r}", "images", given, images)
                self.defense.attacked(passed.inside(0, rng), images, rng, passed.fitted[0])
                check_unchanged(f"defense {self.defense.name!r}", "images", given, images)

    def reproducible(self) -> None:
        for images in self.example_batches():
            first, second = (self.classify(images, range(len(images))) for _ in range(2))
            expect(torch.equal(first, second), "equal logits from equal streams", _difference(first, second))

    def declares_randomness(self) -> None:
        differs = False
        for images in self.example_batches():
            near = 0.5 + 0.02 * (images - 0.5)  # close to every boundary of the network, where votes are split
            first, second = (self.classify(near, range(len(near)), purpose=p) for p in ("check", "check again"))
            differs |= not torch.equal(first, second)
        seen = f"stochastic is {self.defense.stochastic}, {'different' if differs else 'equal'} logits"
        expected = (
            "stochastic is False, or logits that differ between streams"
            if self.defense.stochastic
            else "stochastic is True, so that attacks average over it"
        )
        expect(differs == self.defense.stochastic, expected, seen)

    def no_global_randomness(self) -> None:
        for images in self.example_batches():
            with forbid_global_generators():
                self.classify(images, range(len(images)))

    def batches(self) -> None:
        for images in self.example_batches():
            self._compare_batches(self.classify, images)

    def names_samples(self) -> None:
        for images in self.example_batches():
            self._compare_batches(lambda part, ids: self.classify(part, ids, _Jitter()), images)

    def _compare_batches(
        self, call: Callable[[torch.Tensor, Sequence[int]], torch.Tensor], images: torch.Tensor
    ) -> None:
        ids = list(range(len(images)))
        together = call(images, ids)
        alone = torch.cat([call(images[i : i + 1], [i]) for i in ids])
        reversed_order = call(images.flip(0), ids[::-1]).flip(0)
        for second, condition in ((alone, "by itself"), (reversed_order, "in another order")):
            expect(
                _agree(together, second),
                f"an image {condition} to have the same result as in the batch",
                _difference(together, second),
            )

    def declares_identity(self) -> None:
        if not self.defense.identity:
            return
        for images in self.example_batches():
            plain = self.chain_pass(images).network(images)
            logits = self.classify(images, range(len(images)))
            expect(torch.equal(plain, logits), "identity is False", f"True, and {_difference(plain, logits)}")

    def gradients(self) -> None:
        for images in self.example_batches():
            label, points = f"the gradient of defense {self.defense.name!r}", images.clone().requires_grad_()
            rng = SampleRandom(0, "check", range(len(images)), images.device)
            passed = self.chain_pass(images)
            for number in range(count_approximations(passed.chain)):
                classifier = _attacked(passed, rng, 1, number)
                with torch.enable_grad():
                    (gradient,) = torch.autograd.grad(classifier(points).square().sum(), points, allow_unused=True)
                expect(gradient is not None, "a gradient at the images", f"{label}: the logits do not depend on them")
                expect(bool(torch.isfinite(gradient).all()), "finite gradients", f"{label}: NaN or infinite ones")
                expect(bool(gradient.any()), "a gradient that is not zero throughout", f"{label}: zero for every image")

    def on_cuda(self) -> None:
        device = cuda()
        for images in self.example_batches():
            self.classify(images.to(device), range(len(images)))

    @torch.no_grad()
    def certify(self, images: torch.Tensor, ids: Sequence[int]) -> Certificate:
        return self.chain_pass(images).certify(images, SampleRandom(0, "check", ids, images.device))

    def certificate_form(self) -> None:
        for images in self.example_batches():
            for count in (1, len(images)):
                self.certify(images[:count], range(count))

    def certificates_reproducible(self) -> None:
        for images in self.example_batches():
            first, second = (self.certify(images, range(len(images))) for _ in range(2))
            same = torch.equal(first.classes, second.classes) and torch.equal(first.radii, second.radii)
            expect(same, "equal certificates from equal streams", "different ones")

    def certificate_batches(self) -> None:
        for images in self.example_batches():
            self._compare_batches(lambda part, ids: self.certify(part, ids).radii, images)
            self._compare_batches(lambda part, ids: self.certify(part, ids).classes.double(), images)

    @torch.no_grad()
    def certificates_hold(self) -> None:
        """The network is linear with two classes; each image is moved towards the other class, by almost its radius."""
        norm = self.defense.certified_norm
        for images in self.example_batches():
            passed = self.chain_pass(images, classes=2)
            ids, near = range(len(images)), 0.5 + 0.1 * (images - 0.5)
            certificate = passed.certify(near, SampleRandom(0, "check", ids, images.device))
            with torch.enable_grad():
                points = near.clone().requires_grad_()
                streams = SampleRandom(0, "attacked", ids, images.device)
                logits = _attacked(passed, streams, _DRAWS)(points)
                towards = torch.autograd.grad((logits[:, 1] - logits[:, 0]).sum(), points)[0]
            sign = torch.where(certificate.classes == 1, -1.0, 1.0)[:, None, None, None]
            steps = sign * _unit_steps(towards, norm) * certificate.radii.float()[:, None, None, None] * _ALMOST
            answer = passed.answer(near + steps, SampleRandom(0, "defense", ids, images.device))
            wrong = _is_wrong(answer.logits, certificate.classes.clamp(min=0), self.defense.votes)
            broken = int((wrong & (certificate.classes >= 0)).sum())
            expect(
                not broken,
                f"the certified class within the radius, in {norm}",
                f"another class for {broken} of {len(images)} images that were moved by {_ALMOST:g} of their radius",
            )


def _attacked(passed: ChainPass, rng: SampleRandom, draws: int, number: int = 0) -> DefendedClassifier:
    """The classifier that attacks get, with one of its approximations, for samples of class 0."""
    labels = torch.zeros(len(rng), dtype=torch.int64, device=rng.device)
    return DefendedClassifier(
        passed.network, passed.chain, rng, draws, number=number, labels=labels, fitted=passed.fitted
    )


def _is_wrong(logits: torch.Tensor, classes: torch.Tensor, votes: int | None) -> torch.Tensor:
    """Whether another class is predicted; in votes, only if a share of at least 1/2 for this one is ruled out."""
    if votes is None:
        return logits.argmax(dim=1) != classes
    counts = count_votes(logits, votes).gather(1, classes[:, None])[:, 0].tolist()
    return torch.tensor([binomial_tail(votes - count, votes, 0.5) < _SIGNIFICANCE / len(counts) for count in counts])


def _unit_steps(gradients: torch.Tensor, norm: str | None) -> torch.Tensor:
    """The steps of length 1 in a norm that follow gradients best."""
    if norm == "linf":
        return gradients.sign()
    flat = gradients.flatten(1)
    if norm == "l2":
        lengths: torch.Tensor = flat.norm(dim=1).clamp(min=1e-12)
        return gradients / lengths[:, None, None, None]
    if norm != "l1":
        raise RuleSkipped(f"no steps are known in the norm {norm}")
    largest = flat.abs().argmax(dim=1, keepdim=True)
    steps = torch.zeros_like(flat).scatter(1, largest, flat.gather(1, largest).sign())  # one pixel
    return steps.reshape(gradients.shape)


def _agree(first: torch.Tensor, second: torch.Tensor) -> bool:
    largest = float(first.abs().max().clamp(min=1e-9))
    return first.shape == second.shape and float((first - second).abs().max()) <= _TOLERANCE * largest


def _difference(first: torch.Tensor, second: torch.Tensor) -> str:
    return f"values that differ by up to {float((first - second).abs().max()):.3g}"
