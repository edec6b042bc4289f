"""Evidence: results of the paper's suites, looked up by the paper's datasets, attacks and defenses."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from advbench.results import confusion_matrix
from advbench_studies.paper2019.moved_pixels import moved_to_bounds
from advbench_studies.paper2019.resampling import Outcomes
from advbench_studies.paper2019.setting import (
    ADAPTIVE,
    ATTACKS,
    DATASETS,
    FULL,
    IMAGES,
    AttackSetting,
    DatasetSetting,
    Protocol,
    Wanted,
    is_retrained,
    matches,
    number,
    parameters,
)
from advbench_studies.paper2019.strongest import join_cells, join_records
from advbench_studies.paper2019.verdict import Reading, too_few

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Floats = npt.NDArray[np.float64]
    Images = npt.NDArray[np.float32]

__all__ = ["Evidence", "ImagesOf", "SuiteResults", "View"]

ImagesOf: TypeAlias = "Callable[[Mapping[str, Any]], tuple[Images, Images] | None]"
"""Gives the clean and the adversarial images of a cell; None if they are unknown."""


@dataclasses.dataclass(frozen=True)
class SuiteResults:
    """One suite's run.

    Attributes:
        name: The suite.
        results: As in results.json.
        confusions: Confusion matrices of finished cells, by (dataset, model, attack, threat, defense).
        outcomes: The outcomes of their samples.
        cells: The cells of the results, in which the adaptive cells of PGD count the strongest of PGD and APGD for each
            image; None for the cells as they are.
        images: Gives the clean and the adversarial images of a cell, or None.
    """

    name: str
    results: Mapping[str, Any]
    confusions: Mapping[tuple[str, ...], list[list[int]]]
    outcomes: Mapping[tuple[str, ...], Outcomes] = dataclasses.field(default_factory=dict)
    cells: Sequence[Mapping[str, Any]] | None = None
    images: ImagesOf | None = None

    @classmethod
    def of(
        cls,
        name: str,
        results: Mapping[str, Any],
        records: Iterable[Mapping[str, Any]],
        images: ImagesOf | None = None,
    ) -> SuiteResults:
        """Reads results and the records that they were computed from."""
        confusions, outcomes, adaptive = {}, {}, []
        for record in records:
            if record["status"] == "ok":
                confusions[_coordinates(record)] = confusion_matrix(record)
                outcomes[_coordinates(record)] = Outcomes.of(record)
                if record["threat"] == ADAPTIVE:
                    adaptive.append(record)
        joined = join_records(adaptive, "pgd", ("apgd",))
        for coordinates, strongest in joined.items():
            confusions[coordinates] = confusion_matrix(strongest)
            outcomes[coordinates] = Outcomes.of(strongest)
        return cls(name, results, confusions, outcomes, join_cells(results["cells"], joined), images)


class Evidence:
    """All measurements, each cell once.

    Args:
        suites: The runs; that of the suite ``paper-full`` is kept apart, since its images are others.
    """

    def __init__(self, suites: Iterable[SuiteResults]) -> None:
        self.cells: dict[bool, dict[tuple[str, ...], Mapping[str, Any]]] = {False: {}, True: {}}
        self.confusions: dict[tuple[str, ...], list[list[int]]] = {}
        self.outcomes: dict[bool, dict[tuple[str, ...], Outcomes]] = {False: {}, True: {}}
        self._resamples: dict[tuple[Any, ...], Sequence[float]] = {}
        self._images: dict[tuple[str, ...], ImagesOf] = {}
        self._moved: dict[tuple[str, ...], Floats | None] = {}
        for suite in suites:
            full = suite.name == FULL
            for cell in suite.results["cells"] if suite.cells is None else suite.cells:
                self.cells[full].setdefault(_coordinates(cell), cell)
                if suite.images is not None and not full:
                    self._images.setdefault(_coordinates(cell), suite.images)
            self.outcomes[full] |= suite.outcomes
            if not full:
                self.confusions |= suite.confusions

    def resamples(self, cell: Mapping[str, Any], measure: str, *, full: bool) -> Sequence[float] | None:
        """A measure of a cell on resampled images; None if its outcomes are unknown."""
        coordinates = _coordinates(cell)
        outcomes = self.outcomes[full].get(coordinates)
        if outcomes is None:
            return None
        key = (full, coordinates, measure)
        if key not in self._resamples:
            self._resamples[key] = outcomes.resampled(measure).tolist()
        return self._resamples[key]

    def moved_to_bounds(self, cell: Mapping[str, Any]) -> Floats | None:
        """For each sample of a cell, the share of pixels that the attack moved to 0 or 255; None if it is unknown."""
        coordinates = _coordinates(cell)
        if coordinates not in self._moved:
            images = self._images[coordinates](cell) if coordinates in self._images else None
            self._moved[coordinates] = None if images is None else moved_to_bounds(*images)
        return self._moved[coordinates]

    def clean(self, dataset: DatasetSetting, component: str, wanted: Wanted, *, retrained: bool) -> Reading:
        """Clean accuracy behind a defense, of the dataset's classifier or of the one retrained behind the defense."""
        for cell in self.cells[False].values():
            if (
                (cell["status"], cell["threat"]) == ("ok", "oblivious")
                and parameters(cell["dataset"])[0] == dataset.key
                and is_retrained(cell["model"]) == retrained
                and matches(cell["defense"], component, wanted)
            ):
                resamples, few = (
                    self.resamples(cell, "clean_accuracy", full=False),
                    too_few(cell["n"], f"of {dataset.title}"),
                )
                return Reading(cell["clean_accuracy"], "", resamples, cell["n"], few)
        what = f"retrained behind {component}" if retrained else f"behind {component}"
        return Reading(None, f"the classifier of {dataset.title}, {what}, not run")

    def view(self, protocol: Protocol, *, full: bool = False) -> View:
        """The cells under a protocol; with ``full`` those on all test images instead of 1,000."""
        cells = [
            cell
            for cell in self.cells[full].values()
            if cell["threat"] == protocol.threat and not is_retrained(cell["model"])
        ]
        return View(self, protocol, cells, full)


class View:
    """The cells of one protocol.

    Args:
        evidence: The measurements.
        protocol: The protocol.
        cells: The cells under the protocol's threat on the samples of the view.
        full: Whether the samples are all test images.
    """

    def __init__(self, evidence: Evidence, protocol: Protocol, cells: list[Mapping[str, Any]], full: bool) -> None:
        self.evidence = evidence
        self.protocol = protocol
        self.full = full
        self._cells: dict[tuple[str, str], list[Mapping[str, Any]]] = {}
        for cell in cells:
            if not protocol.has(cell["attack"]):
                continue
            attack, _ = parameters(cell["attack"])
            dataset, _ = parameters(cell["dataset"])
            self._cells.setdefault((dataset, attack), []).append(cell)

    def all(self, dataset: DatasetSetting, attack: AttackSetting) -> list[Mapping[str, Any]]:
        """The cells of a dataset and attack, one for each defense."""
        return self._cells.get((dataset.key, attack.key), [])

    def cell(
        self, dataset: DatasetSetting, attack: AttackSetting, component: str, wanted: Wanted
    ) -> Mapping[str, Any] | None:
        """The cell of a defense with these parameters, or None."""
        cells = self.all(dataset, attack)
        return next((cell for cell in cells if matches(cell["defense"], component, wanted)), None)

    def reading(
        self,
        dataset: DatasetSetting,
        attack: AttackSetting,
        component: str,
        wanted: Wanted,
        measure: str = "robust_accuracy",
    ) -> Reading:
        """A measure of a cell, as results.json names it."""
        cell = self.cell(dataset, attack, component, wanted)
        if cell is not None and cell["status"] == "ok" and cell[measure] is not None:
            resamples = self.evidence.resamples(cell, measure, full=self.full)
            images = None if measure.startswith("median") else cell["n"]
            return Reading(cell[measure], "", resamples, images, self.too_few(dataset, cell, measure))
        if not any(key == dataset.key for key, _ in self._cells):
            return Reading(None, f"{dataset.title}{', all images' if self.full else ''}")
        given = ",".join(f"{key}={value if isinstance(value, str) else f'{value:g}'}" for key, value in wanted.items())
        defense = f"{component}:{given}" if given else component
        state = "failed" if cell is not None and cell["status"] == "error" else "not run"
        return Reading(None, f"{defense} against {self.attack_name(attack)} on {dataset.title} {state}")

    def too_few(self, dataset: DatasetSetting, cell: Mapping[str, Any], measure: str = "robust_accuracy") -> str:
        """The number of images behind a measure of a cell, if they decide nothing; else nothing."""
        few = too_few(cell["n"], f"of {dataset.title}")
        outcomes = self.evidence.outcomes[self.full].get(_coordinates(cell))
        if few or outcomes is None or not measure.startswith("median"):
            return few
        return too_few(outcomes.fooled(), f"of {dataset.title} that fool the model")

    def confusion(
        self, dataset: DatasetSetting, attack: AttackSetting, component: str, wanted: Wanted
    ) -> list[list[int]] | None:
        """The confusion matrix of a cell, or None."""
        cell = self.cell(dataset, attack, component, wanted)
        return None if cell is None else self.evidence.confusions.get(_coordinates(cell))

    def outcomes(
        self, dataset: DatasetSetting, attack: AttackSetting, component: str, wanted: Wanted
    ) -> Outcomes | None:
        """The outcomes of a cell's samples, or None."""
        cell = self.cell(dataset, attack, component, wanted)
        return None if cell is None else self.evidence.outcomes[self.full].get(_coordinates(cell))

    def moved_to_bounds(
        self, dataset: DatasetSetting, attack: AttackSetting, component: str, wanted: Wanted
    ) -> Floats | None:
        """For each sample of a cell, the share of pixels that the attack moved to 0 or 255; None if it is unknown."""
        cell = self.cell(dataset, attack, component, wanted)
        return None if cell is None else self.evidence.moved_to_bounds(cell)

    def settings(self, component: str, parameter: str, dataset: DatasetSetting) -> list[float]:
        """The values of a defense's parameter that were run, ascending."""
        values = set()
        for (key, _), cells in self._cells.items():
            for cell in cells if key == dataset.key else ():
                value = number(parameters(cell["defense"])[1].get(parameter, ""))
                if value is not None and matches(cell["defense"], component, {}):
                    values.add(value)
        return sorted(values)

    def title(self, dataset: DatasetSetting) -> str:
        """The dataset, with the number of images if it is not that of the paper or of the protocol."""
        wanted = dataset.size if self.full else self.protocol.images.get(dataset.key, IMAGES)
        counts = {cell["n"] for (key, _), cells in self._cells.items() if key == dataset.key for cell in cells}
        if not counts or counts == {wanted}:
            return dataset.title
        return f"{dataset.title} ({' and '.join(f'{n:,}' for n in sorted(counts))} images, not {wanted:,})"

    def attack_name(self, attack: AttackSetting) -> str:
        """The attack as the protocol calls it."""
        return self.protocol.names.get(attack.key, attack.title)

    def attack_title(self, dataset: DatasetSetting, attack: AttackSetting) -> str:
        """The attack, with its parameters that differ from the paper's."""
        changes, name = self.changes(dataset, attack), self.attack_name(attack)
        return f"{name} ({', '.join(changes)})" if changes else name

    def changes(self, dataset: DatasetSetting, attack: AttackSetting) -> list[str]:
        """How the attack that was run differs from the paper's; empty if it does not."""
        adaptive = self.protocol.threat == ADAPTIVE  # its attacks are the suite's, and not the paper's
        wanted = {} if adaptive else {**attack.parameters, **self.protocol.wanted.get(attack.key, {})}
        if attack.searches and self.protocol.has_budget:
            wanted["eps"] = dataset.eps
            if attack.step is not None and not adaptive:
                wanted["step_size"] = attack.step * dataset.eps
        differences: dict[str, None] = {}
        for cell in self.all(dataset, attack):
            given = parameters(cell["attack"])[1]
            for key, expected in wanted.items():
                if key in given and not matches(cell["attack"], attack.key, {key: expected}):
                    differences[f"{key}={given[key]}, not {expected:g}"] = None
        return list(differences)

    def reductions(self) -> list[str]:
        """What was run with less than in the paper, in words."""
        reductions = [title for dataset in DATASETS if (title := self.title(dataset)) != dataset.title]
        for dataset in DATASETS:
            for attack in ATTACKS:
                title = self.attack_title(dataset, attack)
                if title != self.attack_name(attack):
                    reductions.append(f"{title} on {dataset.title}")
        return reductions


def _coordinates(cell: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(cell[key] for key in ("dataset", "model", "attack", "threat", "defense"))
