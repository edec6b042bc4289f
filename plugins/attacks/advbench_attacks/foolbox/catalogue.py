"""Foolbox's attacks by name, with their arguments as parameters."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
import sys
import types
import typing
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

from advbench.api import Access, Norm, Parameter, ParameterError, Value
from advbench_attacks.foolbox import engine as foolbox_engine
from advbench_attacks.goals import GOAL

if TYPE_CHECKING:
    from foolbox.attacks.base import Attack as AnyFoolboxAttack

__all__ = [
    "access",
    "build",
    "check",
    "depends_on_batch",
    "find",
    "incompatibility",
    "init_attack",
    "names",
    "needs_budget",
    "norm",
    "parameters",
    "targeted_only",
    "untargeted_only",
]

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")

_EXCLUDED_ARGUMENTS = {"channel_axis"}  # images are NCHW
_MINIMUM = {"candidates": 2}


@functools.cache
def names() -> tuple[str, ...]:
    """Returns the class names of Foolbox's concrete attacks, sorted, including those that cannot run here."""
    return tuple(sorted({attack.__name__ for attack in _classes().values()}))


def find(name: str) -> type[AnyFoolboxAttack]:
    """Returns the attack class for a name or alias in ``foolbox.attacks``.

    Raises:
        ParameterError: There is none, or it cannot run here.
    """
    known = _classes()
    if name not in known:
        lowercase_names = {known_name.lower(): known_name for known_name in known}
        matches = difflib.get_close_matches(name.lower(), list(lowercase_names), n=1, cutoff=0.5)
        hint = f"did you mean {lowercase_names[matches[0]]!r}?" if matches else f"it has {', '.join(names())}"
        raise ParameterError(f"attack={name}: foolbox.attacks has no such attack; {hint}")
    reason = incompatibility(known[name])
    if reason is not None:
        raise ParameterError(f"attack={name}: {reason}")
    return known[name]


@functools.cache
def incompatibility(attack: type[AnyFoolboxAttack]) -> str | None:
    """Returns the reason why an attack cannot run here, or None."""
    run_hints = typing.get_type_hints(attack.run)  # type: ignore[attr-defined]
    if hasattr(attack, "feed"):
        return "it must be fed other images than those it attacks"
    if "starting_points" in run_hints and "init_attack" not in _arguments(attack):
        return "it refines the adversarial images of another attack and finds none itself"
    missing: ImportError | None = getattr(sys.modules[attack.__module__], "NUMBA_IMPORT_ERROR", None)
    if missing is not None:
        return f"it needs numba, which does not import here ({missing}); try pip install numba"
    return None


@functools.cache
def untargeted_only(attack: type[AnyFoolboxAttack]) -> str | None:
    """Returns the reason why an attack cannot be targeted, or None."""
    foolbox = foolbox_engine.load()
    if init_attack(attack) is not None:
        return "it must start at an image of the target class, and finds none itself; use square with this goal"
    if access(attack) == "nothing":
        return "its images do not depend on the model; use square with this goal"
    # These declare other criteria, but accept this one alone.
    if issubclass(attack, _fast_gradient_attacks()):
        return "Foolbox has it for any wrong class only; use fgsm with this goal"
    deepfool = (foolbox.attacks.L2DeepFoolAttack, foolbox.attacks.LinfDeepFoolAttack)
    if issubclass(attack, deepfool) or not _criteria(attack) & {foolbox.TargetedMisclassification, foolbox.Criterion}:
        return "Foolbox has it for any wrong class only; use fmn with this goal"
    return None


def _fast_gradient_attacks() -> tuple[type, ...]:
    attacks = foolbox_engine.load().attacks
    return (attacks.L1FastGradientAttack, attacks.L2FastGradientAttack, attacks.LinfFastGradientAttack)


def targeted_only(attack: type[AnyFoolboxAttack]) -> bool:
    """Returns whether an attack works only towards a target class."""
    return _criteria(attack) == {foolbox_engine.load().TargetedMisclassification}


def _criteria(attack: type[AnyFoolboxAttack]) -> set[Any]:
    """Returns the criteria that an attack's method ``run`` says it takes."""
    criterion = typing.get_type_hints(attack.run)["criterion"]  # type: ignore[attr-defined]
    return set(typing.get_args(criterion)) if _is_union(criterion) else {criterion}


def access(attack: type[AnyFoolboxAttack]) -> Access:
    """Returns what an attack needs of the model; decision-based attacks need labels only."""
    attacks = foolbox_engine.load().attacks
    # The images of these attacks do not depend on the model.
    if issubclass(attack, (attacks.additive_noise.BaseAdditiveNoiseAttack, attacks.L2ContrastReductionAttack)):
        return "nothing"
    decision_based = (
        attacks.additive_noise.BaseRepeatedAdditiveNoiseAttack,
        attacks.BinarySearchContrastReductionAttack,
        attacks.BoundaryAttack,
        attacks.GaussianBlurAttack,
        attacks.HopSkipJumpAttack,
        attacks.InversionAttack,
        attacks.LinearSearchBlendedUniformNoiseAttack,
        attacks.LinearSearchContrastReductionAttack,
        attacks.PointwiseAttack,
        attacks.SaltAndPepperNoiseAttack,
        attacks.SpatialAttack,
    )
    if issubclass(attack, attacks.GenAttack):
        return "scores"
    return "labels" if issubclass(attack, decision_based) else "gradients"


def needs_budget(attack: type[AnyFoolboxAttack]) -> bool:
    """Returns whether the attack requires a fixed budget."""
    return issubclass(attack, foolbox_engine.load().attacks.base.FixedEpsilonAttack)


def parameters(attack: type[AnyFoolboxAttack]) -> tuple[Parameter, ...]:
    """Returns the attack's parameters: those of advbench, then its own arguments that a spec can express.

    ``goal`` is left out where the attack cannot be targeted.
    """
    goal = () if untargeted_only(attack) else (GOAL,)
    return (*_budget_parameters(attack), *_own_parameters(attack), *goal)


def norm(attack: type[AnyFoolboxAttack], values: Mapping[str, Value]) -> Norm | None:
    """Returns the norm of the attack with these parameters, or None if its perturbations have none."""
    base = foolbox_engine.load().attacks.base
    if not issubclass(attack, base.AttackWithDistance):
        return None
    for key in ("constraint", "norm"):  # of HopSkipJumpAttack, and of attacks with a choice of distance
        if key in values:
            return typing.cast(Norm, values[key])
    # Some classes define the distance as an attribute, others as a property that does not use the instance.
    instance: Any = attack.__new__(attack)
    norms: dict[float, Norm] = {0: "l0", 1: "l1", 2: "l2", float("inf"): "linf"}
    return norms[instance.distance.p]


def build(attack: type[AnyFoolboxAttack], values: Mapping[str, Value]) -> Any:
    """Creates the Foolbox attack."""
    own = {parameter.name for parameter in _own_parameters(attack)}
    with foolbox_engine.suppress_warnings():
        return attack(**{key: value for key, value in values.items() if key in own})


def check(attack: type[AnyFoolboxAttack], values: Mapping[str, Value]) -> None:
    """Checks that the attack accepts these arguments.

    Raises:
        ParameterError: It rejects one.
    """
    if issubclass(attack, foolbox_engine.load().attacks.brendel_bethge.BrendelBethgeAttack):
        return  # rejects nothing, and its constructor compiles for most of a minute
    try:
        build(attack, values)
    except (ValueError, AssertionError) as error:
        raise ParameterError(f"attack={attack.__name__}: {error}") from error


def init_attack(attack: type[AnyFoolboxAttack]) -> AnyFoolboxAttack | None:
    """Returns the attack that finds this one's starting points; None if it starts at the clean image.

    Foolbox would run the same attack itself, but raise an error if it fails on a single sample.
    """
    attacks = foolbox_engine.load().attacks
    if issubclass(attack, (attacks.BoundaryAttack, attacks.HopSkipJumpAttack)):
        return typing.cast("AnyFoolboxAttack", attacks.LinearSearchBlendedUniformNoiseAttack(steps=50))
    if issubclass(attack, attacks.brendel_bethge.BrendelBethgeAttack):
        return typing.cast("AnyFoolboxAttack", attacks.LinearSearchBlendedUniformNoiseAttack())
    if issubclass(attack, attacks.PointwiseAttack):
        return typing.cast("AnyFoolboxAttack", attacks.SaltAndPepperNoiseAttack())
    return None


def depends_on_batch(attack: type[AnyFoolboxAttack], values: Mapping[str, Value]) -> bool:
    """Returns whether a sample's result depends on the rest of its batch even without random draws."""
    return (
        # Early abort depends on the progress of the loss summed over the batch.
        values.get("abort_early") is True
        # If one sample leaves the ball, the projection also moves samples inside it.
        or issubclass(attack, foolbox_engine.load().attacks.SparseL1DescentAttack)
        or init_attack(attack) is not None
    )


@functools.cache
def _classes() -> dict[str, type[AnyFoolboxAttack]]:
    """Returns Foolbox's concrete attacks by all their exported names."""
    attacks = foolbox_engine.load().attacks
    return {
        name: value
        for name, value in vars(attacks).items()
        if isinstance(value, type) and issubclass(value, attacks.Attack) and not inspect.isabstract(value)
    }


def _arguments(attack: type[AnyFoolboxAttack]) -> dict[str, inspect.Parameter]:
    """Returns the named arguments of the attack's constructor."""
    if attack.__init__ is object.__init__:
        return {}
    signature = inspect.signature(attack)
    return dict(signature.parameters)


def _budget_parameters(attack: type[AnyFoolboxAttack]) -> tuple[Parameter, ...]:
    base = foolbox_engine.load().attacks.base
    if not issubclass(attack, base.AttackWithDistance):
        return ()
    if needs_budget(attack):
        help_text = "largest perturbation in the attack's norm, for images in [0, 1]"
        return (Parameter("eps", "float", None, required=True, min=0, help=help_text),)
    help_text = "largest perturbation that counts, in the attack's norm; none: any size"
    eps = Parameter("eps", "float", None, optional=True, min=0, help=help_text)
    if not issubclass(attack, base.FlexibleDistanceMinimizationAttack):
        return (eps,)
    return (eps, Parameter("norm", "str", "l2", choices=NORMS, help="norm of eps"))


def _own_parameters(attack: type[AnyFoolboxAttack]) -> tuple[Parameter, ...]:
    hints = typing.get_type_hints(attack.__init__)
    documentation = inspect.getdoc(attack) or ""
    candidates = (
        _parameter(name, argument, hints.get(name), _documented_help(name, documentation))
        for name, argument in _arguments(attack).items()
        if name not in _EXCLUDED_ARGUMENTS
    )
    return tuple(parameter for parameter in candidates if parameter is not None)


def _documented_help(name: str, documentation: str) -> str:
    """Returns what the class's docstring says about an argument."""
    entry = re.search(rf"^ *{name} *: *(.+(?:\n {{8}}.+)*)", documentation, re.MULTILINE)
    return " ".join(entry[1].split()).rstrip(".") if entry else "an argument that Foolbox does not document"


def _parameter(name: str, argument: inspect.Parameter, annotation: Any, description: str) -> Parameter | None:
    """Converts an argument to a parameter; None if a spec cannot express its type."""
    members = set(typing.get_args(annotation)) if _is_union(annotation) else {annotation}
    optional = type(None) in members
    members.discard(type(None))
    required = argument.default is inspect.Parameter.empty
    default = None if required else argument.default
    common: dict[str, Any] = {"optional": optional, "required": required, "help": description}
    if members and all(typing.get_origin(member) is Literal for member in members):
        choices = tuple(choice for member in members for choice in typing.get_args(member))
        if all(isinstance(choice, str) for choice in choices):
            return Parameter(name, "str", default, choices=tuple(sorted(choices)), **common)
    if len(members) != 1:
        return None
    (kind,) = members
    if kind is int:
        # All integers are counts: steps, repeats, directions or candidates.
        return Parameter(name, "int", default, min=_MINIMUM.get(name, 1), **common)
    if kind is float:
        return Parameter(name, "float", default if default is None else float(default), **common)
    if kind in (bool, str):
        return Parameter(name, kind.__name__, default, **common)
    return None


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)
