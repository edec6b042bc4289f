"""The package of a new plugin, small and complete."""

from __future__ import annotations

import dataclasses
import re
from importlib import resources
from pathlib import Path
from string import Template

from advbench._version import __version__
from advbench.errors import UsageError
from advbench.scaffold.names import check_class, check_distribution, check_not_installed

__all__ = ["KINDS", "NewPackage"]

_STUDY = "study"


@dataclasses.dataclass(frozen=True)
class _Template:
    """What the files of a package are made from.

    Attributes:
        component: What the package registers: ``attack``, ``defense``, ``model``, ``dataset`` or ``study``.
        description: One line about the example.
        axes: The axes of the matrix that its README and its test run; the spec None is left out of the README.
        settings: Further settings of that matrix, as keyword arguments.
    """

    component: str
    description: str
    axes: dict[str, str | None]
    settings: dict[str, int | bool | str] = dataclasses.field(default_factory=dict)


_ATTACK: dict[str, str | None] = {
    "attacks": "{name}",
    "datasets": "mnist-20",
    "models": "mnist-cnn",
    "defenses": "none",
}
_DEFENSE: dict[str, str | None] = {
    "defenses": "{name}",
    "datasets": "mnist-20",
    "models": "mnist-cnn",
    "attacks": "fgsm",
}
_FIT: dict[str, int | bool | str] = {"limit": 10, "fit_samples": 10}

_TEMPLATES = {
    "attack": _Template("attack", "An attack for advbench: a gradient method in an L2 ball.", _ATTACK),
    "fitted-attack": _Template(
        "attack", "An attack for advbench: one perturbation for all images, fitted to other images.", _ATTACK, _FIT
    ),
    "geometric-attack": _Template("attack", "An attack for advbench: the best of several random rotations.", _ATTACK),
    "defense": _Template("defense", "A defense for advbench: rounds pixels to a few levels.", _DEFENSE),
    "voting-defense": _Template(
        "defense",
        "A defense for advbench: a vote over noisy copies, with certificates.",
        {**_DEFENSE, "attacks": "pgd:norm=l2,eps=0.25,steps=5"},
        {"threats": "adaptive", "certify": True},
    ),
    "detector": _Template(
        "defense", "A detector for advbench: rejects images whose prediction is unstable.", _DEFENSE, _FIT
    ),
    "model": _Template(
        "model",
        "A model for advbench: one convolution, which finds the brightest part of an image.",
        {"models": "{name}", "datasets": None, "attacks": "fgsm", "defenses": "none"},
    ),
    "dataset": _Template(
        "dataset",
        "A dataset for advbench: bright squares whose position is the class.",
        {"datasets": "{name}", "models": "cifar10-densenet", "attacks": "fgsm", "defenses": "none"},
    ),
    "study": _Template(  # its suite has the axes
        _STUDY, "A study for advbench: does JPEG compression help if the attacker knows it?", {}
    ),
}
KINDS = tuple(_TEMPLATES)
"""What a package may contain: a component of one of these kinds, or a study."""

_PREFIX = "advbench-"


@dataclasses.dataclass(frozen=True)
class NewPackage:
    """A package with one component or one study.

    Attributes:
        folder: The package's folder; its name is that of the distribution.
        kind: One of :data:`KINDS`.
    """

    folder: Path
    kind: str

    def __post_init__(self) -> None:
        """Checks the folder's name.

        Raises:
            UsageError: It cannot be turned into names of a distribution and a module.
        """
        check_distribution(self.distribution)

    @property
    def distribution(self) -> str:
        """The name for pip."""
        return self.folder.resolve().name

    @property
    def module(self) -> str:
        """The name for import."""
        return re.sub(r"[^a-z0-9]+", "_", self.distribution.lower()).strip("_")

    @property
    def name(self) -> str:
        """The component's name in specs, or the study's for ``advbench reproduce``."""
        name = re.sub(r"[^a-z0-9]+", "-", self.distribution.lower()).strip("-")
        short = name.removeprefix(_PREFIX)
        return short if short[:1].isalpha() else name  # a class or a study cannot be called 3d

    @property
    def component(self) -> str:
        """What the package registers: ``attack``, ``defense``, ``model``, ``dataset`` or ``study``."""
        return _TEMPLATES[self.kind].component

    @property
    def kinds(self) -> str:
        """The plural of the component, as ``advbench list`` takes it."""
        return "studies" if self.component == _STUDY else f"{self.component}s"

    @property
    def class_name(self) -> str:
        """The name of the component's class; that of a study is not used."""
        return "".join(word.title() for word in self.name.split("-"))

    def check_not_installed(self) -> None:
        """Checks that the module and the distribution take the place of nothing that is installed.

        Whether another plugin registers a component of this name is not checked.

        Raises:
            UsageError: They do; the message says what to do.
        """
        check_not_installed(self.folder, self.distribution, self.module)

    def files(self) -> dict[str, str]:
        """Returns the files' contents by path, relative to the folder."""
        study = self.kind == _STUDY
        modules = {f"{self.module}.py": f"{self.kind}.py"}
        if study:
            modules[f"{self.module}.toml"] = "study.toml"
        values = {
            "distribution": self.distribution,
            "module": self.module,
            "name": self.name,
            "cls": self.class_name,
            "kind": self.component,
            "kinds": self.kinds,
            "group": '"advbench.studies"' if study else "advbench",
            "included": ", ".join(f'"{name}"' for name in modules),
            "description": _TEMPLATES[self.kind].description,
            "version": __version__,
            "try_it": self._command(),
            "axes": self._arguments(),
            "imports": "import numpy as np\n" if self.kind == "model" else "",
        }
        sources = {
            "pyproject.toml": "pyproject.toml",
            "README.md": "README.md",
            **modules,
            f"tests/test_{self.module}.py": "study_test.py" if study else "test.py",
            ".github/workflows/test.yml": "test.yml",
        }
        return {path: Template(_template(source)).substitute(values) for path, source in sources.items()}

    def write(self) -> list[Path]:
        """Writes the files.

        Returns:
            The paths of the files.

        Raises:
            UsageError: The folder exists and is not empty, or the component's class would hide what its module uses.
        """
        if self.folder.exists() and (not self.folder.is_dir() or any(self.folder.iterdir())):
            raise UsageError(f"{self.folder} exists and is not empty; give another folder")
        files, written = self.files(), []
        if self.kind != _STUDY:
            check_class(self.distribution, self.class_name, files[f"{self.module}.py"])
        for path, content in files.items():
            file = self.folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content, encoding="utf-8")
            written.append(file)
        return written

    def _axes(self) -> dict[str, str]:
        axes = _TEMPLATES[self.kind].axes
        return {axis: spec.format(name=self.name) for axis, spec in axes.items() if spec is not None}

    def _settings(self) -> dict[str, int | bool | str]:
        """The axes and the further settings of the matrix."""
        return {**self._axes(), **_TEMPLATES[self.kind].settings}

    def _command(self) -> str:
        if self.kind == _STUDY:
            return f"advbench reproduce {self.name} --output {self.name}.md"
        if self.kind == "model":
            data = "--datasets image-folder:path=DIR,size=32"
            return f"advbench matrix {data} --models {self.name} --attacks fgsm --defenses none"
        given = self._settings().items()
        flags = [f"--{name.replace('_', '-')}{'' if value is True else f' {value}'}" for name, value in given]
        return f"advbench matrix {' '.join(flags)}"

    def _arguments(self) -> str:
        given = self._settings().items()
        arguments = [f'{name}="{value}"' if isinstance(value, str) else f"{name}={value}" for name, value in given]
        if self.kind == "model":
            arguments.insert(0, "datasets=(np.zeros((20, 3, 32, 32), np.uint8), np.arange(20) % 8)")
        return "".join(f"        {argument},\n" for argument in arguments)


def _template(name: str) -> str:
    return (resources.files("advbench.scaffold") / "templates" / f"{name}.txt").read_text("utf-8")
