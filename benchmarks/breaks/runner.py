"""Attacks a defense with one approximation after another, and scores what is left on fresh draws."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import torch

from advbench.api import Attack, Defense, Goal, ParameterError, SampleRandom, UsageError, WeightsError
from advbench.discovery.loading import discover
from advbench.evaluation.work.attacked.adaptive import DefendedClassifier
from advbench.evaluation.work.chain_pass import ChainPass
from advbench.specs import Chain, resolve_one
from advbench_attacks.gradient.apgd import AutoPgd
from advbench_attacks.gradient.pgd import ProjectedGradientDescent
from benchmarks.breaks.replaced import Approximation, View, with_approximation, with_view
from benchmarks.samples import Samples, load_samples
from benchmarks.tables import Table, write

__all__ = ["main"]

HEADERS = ("approximation", "attack", "attacked images", "left of these %", "left so far %", "CPU seconds")

CHOICE_DRAWS = 10
"""Draws on which each sample's best result is chosen."""

Attacked: TypeAlias = Callable[[Defense], Defense]
"""Replaces the gradient of a defense."""


def main(
    name: str,
    description: str | None,
    *,
    approximations: Mapping[str, Approximation] | None = None,
    views: Mapping[str, View] | None = None,
) -> None:
    """Parses the command line, attacks, and prints what is left.

    Args:
        name: The defense; ``--defense`` sets its parameters.
        description: The help text.
        approximations: Approximations of a defense that transforms images, by their names in the table.
        views: Views of a defense that classifies, by their names in the table.
    """
    parser = _parser(name, description)
    options = parser.parse_args()
    try:
        defense = resolve_one(discover(), "defenses", options.defense)
        assert isinstance(defense, Defense)
        if defense.name != name:
            parser.error(f"--defense: {options.defense!r} is not {name}")
        defense.weights_digest()
        attacks = {name: _attack(name, options) for name in options.attacks}
        samples = load_samples(
            options.model, options.dataset, options.limit,
            seed=options.seed, device=options.device, data_dir=options.data_dir,
        )  # fmt: skip
        refusal = defense.incompatibility(tuple(samples.images.shape[1:]))
    except (ParameterError, UsageError, WeightsError) as error:
        refusal = str(error)
    if refusal:
        parser.exit(2, f"{parser.prog}: error: {refusal}\n")
    replacements: dict[str, Attacked] = {
        **{key: (lambda part, f=f: with_approximation(part, f)) for key, f in (approximations or {}).items()},
        **{key: (lambda part, f=f: with_view(part, f)) for key, f in (views or {}).items()},
    }
    broken = _Break(defense, samples, options, attacks)
    rows = []
    for row in broken.attack(replacements):
        print(*row, sep="  ", file=sys.stderr, flush=True)
        rows.append(row)
    skipped = "" if options.every else "; a sample that is misclassified in all of them is not attacked again"
    draws = f", {options.draws} draws for each gradient" if defense.stochastic else ""
    note = (
        f"{options.model}, {len(samples.ids)} images of {options.dataset}, L∞ {options.eps}, {options.steps} steps"
        f"{draws}. {broken.summary()} The columns `left` have accuracies on the draws that choose each sample's best "
        f"result{skipped}."
    )
    table = Table(f"Breaking {options.defense}", note, HEADERS, rows)
    print(table.markdown())
    if options.output is not None:
        write([table], f"# {parser.prog}\n", options.output, {"command": " ".join([parser.prog, *sys.argv[1:]])})


class _Break:
    """One defense under attack.

    Args:
        defense: The defense.
        samples: The network and the images.
        options: The command line's.
        attacks: The attacks by name.
    """

    def __init__(
        self, defense: Defense, samples: Samples, options: argparse.Namespace, attacks: Mapping[str, Attack]
    ) -> None:
        self.defense, self.samples, self.options, self.attacks = defense, samples, options, attacks
        self.goal = Goal(samples.labels)
        self.best = samples.images.clone()

    def attack(self, replacements: Mapping[str, Attacked]) -> Iterator[list[object]]:
        """Runs each attack with each approximation; yields a row of :data:`HEADERS` each."""
        self.ranks = self._ranks(self.best, range(len(self.best)))
        for approximation, replaced in replacements.items():
            for name in self.options.attacks:
                rows = self.ranks[:, 0].lt(2 if self.options.every else 1).nonzero().flatten()
                began, rates = time.process_time(), torch.zeros(0)
                for part in rows.split(self.options.batch_size) if len(rows) else ():
                    found = self._crafted(name, replaced(self.defense), f"{approximation}/{name}", part)
                    rates = torch.cat((rates, self._improve(part, found).cpu()))
                alone = f"{100 - 100 * float(rates.mean()):.1f}" if len(rows) else None
                seconds = round(time.process_time() - began)
                yield [
                    approximation,
                    name,
                    len(rows),
                    alone,
                    f"{100 - 100 * float(self.ranks[:, 0].mean()):.1f}",
                    seconds,
                ]

    def summary(self) -> str:
        """What is left: sentences with the accuracies on fresh draws and without a defense."""
        draws = self.options.score_draws if self.defense.stochastic else 1
        clean, attacked = (self._correct(images, "score", draws) for images in (self.samples.images, self.best))
        left = clean & attacked
        undefended = self._undefended()
        worst = f"; {_percent(left.all(dim=0))} in all {draws} draws" if draws > 1 else ""
        fresh = f", mean of {draws} fresh draws, which were not used to choose the images" if draws > 1 else ""
        return (
            f"Accuracy without an attack {_percent(clean)}, under attack {_percent(left)}{fresh}{worst}. Without the "
            f"defense, PGD leaves {_percent(undefended)}."
        )

    def _crafted(self, name: str, replaced: Defense, purpose: str, rows: torch.Tensor) -> torch.Tensor:
        """The images of an attack on some samples."""
        ids = [self.samples.ids[row] for row in rows.tolist()]
        streams = SampleRandom(self.options.seed, f"attacked defense/{purpose}", ids, rows.device)
        labels = self.samples.labels[rows]
        classifier = DefendedClassifier(
            self.samples.network, Chain((replaced,)), streams, self.options.draws, labels=labels
        )
        rng = SampleRandom(self.options.seed, f"attack/{purpose}", ids, rows.device)
        crafted = self.attacks[name].craft(classifier, self.samples.images[rows], self.goal[rows], rng)
        assert isinstance(crafted, torch.Tensor)
        return crafted

    def _improve(self, rows: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
        """Keeps what is better than each sample's best result so far; returns in what share of draws each succeeds."""
        ranks, best = self._ranks(found, rows.tolist()), self.ranks[rows]
        better = (ranks[:, 0] > best[:, 0]) | ((ranks[:, 0] == best[:, 0]) & (ranks[:, 1] > best[:, 1]))
        self.best[rows[better]] = found[better]
        self.ranks[rows[better]] = ranks[better]
        return ranks[:, 0]

    def _ranks(self, images: torch.Tensor, rows: range | list[int]) -> torch.Tensor:
        """For each image, the share of draws in which it is misclassified, and its mean margin; shape (batch, 2)."""
        draws = CHOICE_DRAWS if self.defense.stochastic else 1
        goal = self.goal[torch.tensor(list(rows), device=images.device)]
        logits = self._logits(images, "choice", draws, list(rows))
        rates = torch.stack([goal.reached(draw) for draw in logits]).double().mean(dim=0)
        margins = torch.stack([goal.margin(draw) for draw in logits]).double().mean(dim=0)
        return torch.stack((rates, margins), dim=1)

    def _correct(self, images: torch.Tensor, purpose: str, draws: int) -> torch.Tensor:
        """Whether images are classified correctly in each draw: bool, shape (draws, batch)."""
        logits = self._logits(images, purpose, draws, list(range(len(images))))
        return logits.argmax(dim=2) == self.samples.labels

    @torch.no_grad()
    def _logits(self, images: torch.Tensor, purpose: str, draws: int, rows: list[int]) -> torch.Tensor:
        """The logits of defense and network, as they score; shape (draws, batch, classes)."""
        size = self.options.batch_size
        found = []
        for start in range(0, len(images), size):
            ids = [self.samples.ids[row] for row in rows[start : start + size]]
            rng = SampleRandom(self.options.seed, purpose, ids, images.device)
            chain = ChainPass(Chain((self.defense,)), self.samples.network, size)
            part = images[start : start + size]
            found.append(torch.stack([chain.answer(part, rng.spawn()).logits for _ in range(draws)]))
        return torch.cat(found, dim=1)

    def _undefended(self) -> torch.Tensor:
        """Whether the network without the defense withstands PGD: bool, shape (batch,)."""
        left = []
        for rows in torch.arange(len(self.best), device=self.best.device).split(self.options.batch_size):
            images, goal, network = self.samples.images[rows], self.goal[rows], self.samples.network
            rng = SampleRandom(self.options.seed, "attack", [self.samples.ids[row] for row in rows], rows.device)
            crafted = _attack("pgd", self.options).craft(network, images, goal, rng)
            assert isinstance(crafted, torch.Tensor)
            with torch.no_grad():
                left.append(~goal.reached(network(images)) & ~goal.reached(network(crafted)))
        return torch.cat(left)


def _attack(name: str, options: argparse.Namespace) -> Attack:
    eps = float(Fraction(options.eps))
    if name == "apgd":
        return AutoPgd(eps=eps, steps=options.steps, loss="dlr")
    return ProjectedGradientDescent(eps=eps, steps=options.steps, step_size=eps / 8)


def _fraction(text: str) -> str:
    """Checks a number above 0 such as 8/255; returns it as it is."""
    try:
        positive = Fraction(text) > 0
    except (ValueError, ZeroDivisionError):
        positive = False
    if not positive:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a number above 0, such as 8/255")
    return text


def _count(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number of at least 1")
    return int(text)


def _percent(correct: torch.Tensor) -> str:
    return f"{100 * float(correct.double().mean()):.1f} %"


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    module = name.replace("-", "_")
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks.breaks.{module}",
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--defense", default=name, metavar="SPEC", help=f"{name} with its parameters")
    parser.add_argument("--model", default="cifar10-densenet", metavar="SPEC")
    parser.add_argument("--dataset", default="cifar10", metavar="SPEC")
    parser.add_argument("--limit", type=_count, default=50, metavar="N", help="number of images")
    parser.add_argument("--eps", default="8/255", type=_fraction, help="largest L∞ norm; PGD's steps are eps/8 long")
    parser.add_argument("--steps", type=_count, default=40, metavar="N")
    parser.add_argument("--attacks", nargs="+", choices=("pgd", "apgd"), default=["pgd", "apgd"])
    parser.add_argument(
        "--every", action="store_true", help="attack each image with each approximation, also broken ones"
    )
    parser.add_argument("--draws", type=_count, default=40, metavar="N", help="draws for each gradient, if stochastic")
    parser.add_argument("--score-draws", type=_count, default=20, metavar="N", help="fresh draws of the score")
    parser.add_argument("--batch-size", type=_count, default=25, metavar="N")
    parser.add_argument("--seed", type=int, default=0, metavar="N")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--data-dir", type=Path, metavar="DIR", help="folder with datasets")
    parser.add_argument("--output", type=Path, metavar="DIR", help="write report.md and report.json there")
    return parser
