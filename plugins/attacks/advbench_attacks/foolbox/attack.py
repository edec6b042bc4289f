"""The attack ``foolbox``: any attack of Foolbox by its class name."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from advbench.api import (
    Access,
    Artefact,
    Attack,
    Budget,
    Goal,
    Norm,
    Parameter,
    ParameterError,
    SampleRandom,
    Value,
    closest,
    for_rows,
    is_stochastic,
    until_spent,
)
from advbench_attacks.classifier_calls import reaches_goal
from advbench_attacks.foolbox import catalogue as foolbox_catalogue
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.foolbox.generators import run_per_sample
from advbench_attacks.goals import GOAL

if TYPE_CHECKING:
    from foolbox.attacks.base import Attack as AnyFoolboxAttack

__all__ = ["FoolboxAttack"]

_ATTACK = Parameter(
    "attack", "str", None, required=True, help="class name in foolbox.attacks, such as L2BasicIterativeAttack"
)
_EPS = Parameter(
    "eps", "float", None, optional=True, min=0, help="largest perturbation, in the attack's norm; some attacks need it"
)


@dataclasses.dataclass(frozen=True, init=False)
class FoolboxAttack(Attack):
    """Any attack of Foolbox by its class name; the class's own arguments are further parameters.

    An attack with a fixed budget requires ``eps``. For one that searches for the smallest perturbation, ``eps`` is the
    largest perturbation that counts; without it, it is a minimal attack.

    Foolbox draws from global random generators, for the whole batch at once. To give every sample its own stream, an
    attack that draws runs sample by sample, which takes longer. CUDA devices draw other numbers than the CPU.

    With a ``goal``, an attack runs with Foolbox's criterion ``TargetedMisclassification``. Attacks that cannot be
    targeted do not have this parameter: those that Foolbox has for any wrong class only, those whose images do not
    depend on the model, and those that must start at an image of the target class. ``GenAttack`` needs a goal.

    Attributes:
        attack: Class name in ``foolbox.attacks``, aliases resolved.
        eps: Largest perturbation, in the attack's norm, images being in [0, 1]; None for a minimal attack.
        goal: The class that the attack aims at, see :func:`advbench.api.goal_param`.
        arguments: The other parameters with their values, defaults included.
    """

    name: ClassVar[str] = "foolbox"
    self_contained: ClassVar[bool] = True
    source: ClassVar[str] = (
        "Rauber, Zimmermann, Bethge and Brendel 2020, Foolbox Native: Fast adversarial attacks to benchmark the "
        "robustness of machine learning models in PyTorch, TensorFlow, and JAX"
    )
    # GaussianBlurAttack uses SciPy.
    depends_on: ClassVar[tuple[str, ...]] = (*foolbox_engine.DEPENDS_ON, "scipy")

    attack: str
    eps: float | None
    goal: str
    arguments: tuple[tuple[str, Value], ...] = dataclasses.field(init=False)

    def __init__(self, attack: str, eps: float | None = None, goal: str = "untargeted", **arguments: Value) -> None:
        """Validates the parameters and adds the defaults.

        Args:
            attack: Class name in ``foolbox.attacks``, or one of its aliases.
            eps: Largest perturbation, in the attack's norm, images being in [0, 1].
            goal: See :func:`advbench.api.goal_param`.
            **arguments: The attack's own arguments; ``norm`` for attacks with a choice of distance.

        Raises:
            ParameterError: There is no such attack, it cannot run here, or a parameter is unknown, missing or not
                allowed.
        """
        chosen = foolbox_catalogue.find(attack)
        known = {parameter.name: parameter for parameter in foolbox_catalogue.parameters(chosen)}
        given: dict[str, Value] = {**arguments, **({} if eps is None else {"eps": eps})}
        given |= {} if goal == GOAL.default else {"goal": goal}
        for key in given:
            if key not in known:
                _check_goal(attack, chosen, key)
                hint = closest(key, known) or f"it takes {', '.join(known)}"
                raise ParameterError(f"attack={attack} has no parameter {key!r}; {hint}")
        values: dict[str, Value] = {}
        for key, parameter in known.items():
            if parameter.required and key not in given:
                raise ParameterError(f"attack={attack} needs {key}=…: {parameter.help}")
            values[key] = parameter.check(given[key]) if key in given else parameter.default
        object.__setattr__(self, "attack", chosen.__name__)
        if foolbox_catalogue.targeted_only(chosen) and values["goal"] == GOAL.default:
            raise ParameterError(f"attack={attack} works only towards a target class; add goal=…, such as goal=next")
        object.__setattr__(self, "eps", values.pop("eps", None))
        object.__setattr__(self, "goal", values.pop("goal", GOAL.default))
        object.__setattr__(self, "arguments", tuple(values.items()))
        foolbox_catalogue.check(chosen, values)

    @property
    def access(self) -> Access:  # type: ignore[override]
        """What the attack needs: labels if it is decision-based, nothing for noise, else gradients."""
        return foolbox_catalogue.access(self._class())

    @classmethod
    def parameters(cls, given: Mapping[str, str] | None = None) -> tuple[Parameter, ...]:
        """Returns the parameters of the attack that ``given`` names; without one, those that all share.

        Raises:
            ParameterError: ``given`` names no attack, or one that is unknown or cannot run here.
        """
        if not given:
            return (_ATTACK, _EPS, GOAL)
        if "attack" not in given:
            raise ParameterError(f"needs attack=…: {_ATTACK.help}")
        chosen = foolbox_catalogue.find(given["attack"])
        for key in given:
            _check_goal(given["attack"], chosen, key)
        return (_ATTACK, *foolbox_catalogue.parameters(chosen))

    def values(self) -> dict[str, Value]:
        """Returns all parameters with their values, defaults included."""
        own = dict(self.arguments)
        shared: dict[str, Value] = {"attack": self.attack}
        if self._norm() is not None:
            shared["eps"] = self.eps
        targetable = foolbox_catalogue.untargeted_only(self._class()) is None
        return {**shared, **own, **({"goal": self.goal} if targetable else {})}

    def budget(self) -> Budget | None:
        """Returns the ball of radius eps in the attack's norm, or None without eps."""
        norm = self._norm()
        return None if self.eps is None or norm is None else Budget(norm, self.eps)

    def minimized_norm(self) -> Norm | None:
        """Returns the attack's norm, or None if its perturbations have none."""
        return self._norm()

    def craft(
        self,
        model: torch.nn.Module,
        images: torch.Tensor,
        goal: Goal,
        rng: SampleRandom,
        fitted: Artefact | None = None,
    ) -> torch.Tensor:
        """Attacks one batch; see :meth:`advbench.api.Attack.craft`."""
        del fitted
        seeds = rng.seeds()
        rows = list(range(len(images)))
        if not foolbox_catalogue.needs_budget(self._class()):
            # These attacks search for an image that reaches the goal, and some fail if the clean one does.
            rows = torch.nonzero(~reaches_goal(model, images, goal)).flatten().tolist()
        crafted = images.clone()
        if rows:
            attack = foolbox_catalogue.build(self._class(), dict(self.arguments))

            def craft(positions: list[int]) -> tuple[torch.Tensor, bool]:
                chosen = torch.tensor([rows[position] for position in positions], device=images.device)
                clean, aims = images[chosen], goal[chosen]
                row_model = for_rows(model, chosen)
                try:
                    return until_spent(
                        row_model, lambda classifier: self._craft(attack, classifier, clean, aims), clean
                    )
                except (AssertionError, ValueError) as error:
                    if not is_stochastic(model) or not foolbox_engine.lost_start(error):
                        raise
                    raise RuntimeError(
                        f"{self.attack} ended, since an image that fooled the stochastic classifier did not fool it in "
                        "another draw; use an attack that expects this, such as rays or square, or more draws (eot)"
                    ) from error

            allow_batch = not foolbox_catalogue.depends_on_batch(self._class(), dict(self.arguments))
            crafted[rows] = run_per_sample(craft, [seeds[row] for row in rows], images.device, allow_batch=allow_batch)
        return crafted

    def _craft(self, attack: Any, model: torch.nn.Module, images: torch.Tensor, goal: Goal) -> torch.Tensor:
        """Attacks some of the samples; unless the budget is fixed, none may reach the goal yet."""
        if self.eps is not None and foolbox_catalogue.needs_budget(self._class()):
            return foolbox_engine.run_fixed_budget(attack, model, images, goal, self.eps)
        starting_points = None
        init_attack = foolbox_catalogue.init_attack(self._class())
        if init_attack is not None:
            starting_points = foolbox_engine.find_adversarials(init_attack, model, images, goal)
            if torch.equal(starting_points, images):
                return images
        return foolbox_engine.find_adversarials(
            attack, model, images, goal, eps=self.eps, norm=self._norm(), starting_points=starting_points
        )

    def _class(self) -> type[AnyFoolboxAttack]:
        return foolbox_catalogue.find(self.attack)

    def _norm(self) -> Norm | None:
        return foolbox_catalogue.norm(self._class(), dict(self.arguments))


def _check_goal(name: str, attack: type[AnyFoolboxAttack], key: str) -> None:
    """Raises an error with the reason if the parameter is a goal and the attack cannot be targeted."""
    reason = foolbox_catalogue.untargeted_only(attack)
    if key == "goal" and reason is not None:
        raise ParameterError(f"attack={name} cannot be targeted: {reason}")
