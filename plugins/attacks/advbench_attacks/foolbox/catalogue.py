"""What Foolbox's catalogue offers here: its attacks by name, and their arguments as parameters."""

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

if TYPE_CHECKING:
    from foolbox.attacks.base import Attack as AnyFoolboxAttack

__all__ = [
    "access",
    "alone",
    "build",
    "check",
    "find",
    "names",
    "needs_budget",
    "norm",
    "parameters",
    "refusal",
    "start",
]

NORMS: tuple[Norm, ...] = ("linf", "l2", "l1", "l0")

_NOT_OFFERED = {"channel_axis"}  # images are NCHW
_LOWEST = {"candidates": 2}


@functools.cache
def names() -> tuple[str, ...]:
    """The class names of Foolbox's concrete attacks, sorted, the refused ones included."""
    return tuple(sorted({attack.__name__ for attack in _classes().values()}))


def find(name: str) -> type[AnyFoolboxAttack]:
    """The attack class of a name or alias of ``foolbox.attacks``.

    Raises:
        ParameterError: There is none, or it cannot run here.
    """
    known = _classes()
    if name not in known:
        spelled = {one.lower(): one for one in known}
        near = difflib.get_close_matches(name.lower(), list(spelled), n=1, cutoff=0.5)
        hint = f"did you mean {spelled[near[0]]!r}?" if near else f"it has {', '.join(names())}"
        raise ParameterError(f"attack={name}: foolbox.attacks has no such attack; {hint}")
    reason = refusal(known[name])
    if reason is not None:
        raise ParameterError(f"attack={name}: {reason}")
    return known[name]


@functools.cache
def refusal(attack: type[AnyFoolboxAttack]) -> str | None:
    """Why an attack cannot run here, or None where it can."""
    foolbox = foolbox_engine.load()
    taken = typing.get_type_hints(attack.run)  # type: ignore[attr-defined]
    if taken["criterion"] is foolbox.TargetedMisclassification:
        return "it works only towards a chosen class, and attacks are untargeted here"
    if hasattr(attack, "feed"):
        return "it must be fed other images than those it attacks"
    if "starting_points" in taken and "init_attack" not in _arguments(attack):
        return "it refines the adversarial images of another attack and finds none itself"
    missing: ImportError | None = getattr(sys.modules[attack.__module__], "NUMBA_IMPORT_ERROR", None)
    if missing is not None:
        return f"it needs numba, which does not import here ({missing}); try pip install numba"
    return None


def access(attack: type[AnyFoolboxAttack]) -> Access:
    """What an attack asks of the model: of those that only see whether an image fools it, labels alone."""
    attacks = foolbox_engine.load().attacks
    # What these do to an image does not depend on the model.
    if issubclass(attack, (attacks.additive_noise.BaseAdditiveNoiseAttack, attacks.L2ContrastReductionAttack)):
        return "nothing"
    deciding = (
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
    return "labels" if issubclass(attack, deciding) else "gradients"


def needs_budget(attack: type[AnyFoolboxAttack]) -> bool:
    """Whether the attack works within a budget only."""
    return issubclass(attack, foolbox_engine.load().attacks.base.FixedEpsilonAttack)


def parameters(attack: type[AnyFoolboxAttack]) -> tuple[Parameter, ...]:
    """The attack's parameters: ours, then its own arguments as far as text can express them."""
    return (*_budget_parameters(attack), *_own_parameters(attack))


def norm(attack: type[AnyFoolboxAttack], given: Mapping[str, Value]) -> Norm | None:
    """The norm of the attack with these parameters; None where its perturbations have none."""
    base = foolbox_engine.load().attacks.base
    if not issubclass(attack, base.AttackWithDistance):
        return None
    for key in ("constraint", "norm"):  # of HopSkipJumpAttack, and of those that leave the distance open
        if key in given:
            return typing.cast(Norm, given[key])
    # Some classes have their distance as an attribute, some as a property that does not look at the instance.
    bare: Any = attack.__new__(attack)
    named: dict[float, Norm] = {0: "l0", 1: "l1", 2: "l2", float("inf"): "linf"}
    return named[bare.distance.p]


def build(attack: type[AnyFoolboxAttack], given: Mapping[str, Value]) -> Any:
    """The attack itself."""
    own = {parameter.name for parameter in _own_parameters(attack)}
    with foolbox_engine.quiet():
        return attack(**{key: value for key, value in given.items() if key in own})


def check(attack: type[AnyFoolboxAttack], given: Mapping[str, Value]) -> None:
    """Checks that the attack takes these arguments.

    Raises:
        ParameterError: It refuses one.
    """
    if issubclass(attack, foolbox_engine.load().attacks.brendel_bethge.BrendelBethgeAttack):
        return  # refuses nothing, and takes most of a minute to compile when built
    try:
        build(attack, given)
    except (ValueError, AssertionError) as error:
        raise ParameterError(f"attack={attack.__name__}: {error}") from error


def start(attack: type[AnyFoolboxAttack]) -> AnyFoolboxAttack | None:
    """The attack that finds the points that this one starts from; None where it starts from the image.

    Foolbox would run the same one by itself, but raise an error where it fails for a single sample.
    """
    attacks = foolbox_engine.load().attacks
    if issubclass(attack, (attacks.BoundaryAttack, attacks.HopSkipJumpAttack)):
        return typing.cast("AnyFoolboxAttack", attacks.LinearSearchBlendedUniformNoiseAttack(steps=50))
    if issubclass(attack, attacks.brendel_bethge.BrendelBethgeAttack):
        return typing.cast("AnyFoolboxAttack", attacks.LinearSearchBlendedUniformNoiseAttack())
    if issubclass(attack, attacks.PointwiseAttack):
        return typing.cast("AnyFoolboxAttack", attacks.SaltAndPepperNoiseAttack())
    return None


def alone(attack: type[AnyFoolboxAttack], given: Mapping[str, Value]) -> bool:
    """Whether a sample's result depends on the others of its batch even where nothing is drawn."""
    return (
        # The loss whose progress decides about the abort is summed over the batch.
        given.get("abort_early") is True
        # Once one sample leaves the ball, the projection moves those inside it too.
        or issubclass(attack, foolbox_engine.load().attacks.SparseL1DescentAttack)
        or start(attack) is not None
    )


@functools.cache
def _classes() -> dict[str, type[AnyFoolboxAttack]]:
    """Foolbox's concrete attacks by every name that it exports them under."""
    attacks = foolbox_engine.load().attacks
    return {
        name: value
        for name, value in vars(attacks).items()
        if isinstance(value, type) and issubclass(value, attacks.Attack) and not inspect.isabstract(value)
    }


def _arguments(attack: type[AnyFoolboxAttack]) -> dict[str, inspect.Parameter]:
    """The named arguments of the attack's constructor."""
    if attack.__init__ is object.__init__:
        return {}
    signature = inspect.signature(attack)
    return dict(signature.parameters)


def _budget_parameters(attack: type[AnyFoolboxAttack]) -> tuple[Parameter, ...]:
    base = foolbox_engine.load().attacks.base
    if not issubclass(attack, base.AttackWithDistance):
        return ()
    if needs_budget(attack):
        help_text = "largest perturbation, in the attack's norm, images being in [0, 1]"
        return (Parameter("eps", "float", None, required=True, min=0, help=help_text),)
    help_text = "largest perturbation that counts, in the attack's norm; none: the smallest found, whatever its size"
    eps = Parameter("eps", "float", None, optional=True, min=0, help=help_text)
    if not issubclass(attack, base.FlexibleDistanceMinimizationAttack):
        return (eps,)
    return (eps, Parameter("norm", "str", "l2", choices=NORMS, help="the norm of eps"))


def _own_parameters(attack: type[AnyFoolboxAttack]) -> tuple[Parameter, ...]:
    hints = typing.get_type_hints(attack.__init__)
    documentation = inspect.getdoc(attack) or ""
    offered = (
        _parameter(name, argument, hints.get(name), _described(name, documentation))
        for name, argument in _arguments(attack).items()
        if name not in _NOT_OFFERED
    )
    return tuple(parameter for parameter in offered if parameter is not None)


def _described(name: str, documentation: str) -> str:
    """What the class's docstring says about an argument."""
    entry = re.search(rf"^ *{name} *: *(.+(?:\n {{8}}.+)*)", documentation, re.MULTILINE)
    return " ".join(entry[1].split()).rstrip(".") if entry else "an argument that Foolbox does not document"


def _parameter(name: str, argument: inspect.Parameter, annotation: Any, described: str) -> Parameter | None:
    """The argument as a parameter; None where its type is none that text can express."""
    members = set(typing.get_args(annotation)) if _is_union(annotation) else {annotation}
    optional = type(None) in members
    members.discard(type(None))
    required = argument.default is inspect.Parameter.empty
    default = None if required else argument.default
    common: dict[str, Any] = {"optional": optional, "required": required, "help": described}
    if members and all(typing.get_origin(member) is Literal for member in members):
        choices = tuple(choice for member in members for choice in typing.get_args(member))
        if all(isinstance(choice, str) for choice in choices):
            return Parameter(name, "str", default, choices=tuple(sorted(choices)), **common)
    if len(members) != 1:
        return None
    (kind,) = members
    if kind is int:
        # A count: of steps, repeats, directions or candidates.
        return Parameter(name, "int", default, min=_LOWEST.get(name, 1), **common)
    if kind is float:
        return Parameter(name, "float", default if default is None else float(default), **common)
    if kind in (bool, str):
        return Parameter(name, kind.__name__, default, **common)
    return None


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)
