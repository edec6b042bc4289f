"""Claims that need more than the paper's table: 12, 13, 18."""

from __future__ import annotations

from collections.abc import Sequence

from advbench_studies.paper2019.claim import MNIST, MOST, NO_VARIANTS, claim
from advbench_studies.paper2019.evidence import View
from advbench_studies.paper2019.setting import ATTACKS, DATASETS, AttackSetting, DatasetSetting, number, parameters
from advbench_studies.paper2019.verdict import Check, at_least, check, per_cent, points

__all__ = ["ABLATION_CLAIMS"]

_HARDLY = 0.05
_HURTS = 0.05
_FEW = 4
_SAME = 0.03


@claim(
    12,
    "Accuracy hardly depends on the quality of the JPEG compression.",
    f"On each dataset, over the qualities that were run, the highest and the lowest robust accuracy of JPEG are at "
    f"most {100 * _HARDLY:.0f} points apart against each attack.",
    not_adaptive=NO_VARIANTS,
)
def jpeg_quality_hardly_matters(view: View) -> list[Check]:
    """Claim 12."""
    return [_range(view, dataset, attack) for dataset in DATASETS for attack in ATTACKS]


@claim(
    13,
    "K-means is sensitive: too few clusters (4) and too many both hurt.",
    f"On each dataset, against at least three of the four attacks, both 4 clusters and the most that were run are at "
    f"least {100 * _HURTS:.0f} points below the best number in between.",
    not_adaptive=NO_VARIANTS,
)
def kmeans_is_sensitive(view: View) -> list[Check]:
    """Claim 13."""
    return [
        at_least(
            MOST,
            view.title(dataset),
            "attacks against which both ends hurt:",
            [_hump(view, dataset, attack) for attack in ATTACKS],
        )
        for dataset in DATASETS
    ]


@claim(
    18,
    "1,000 images give the same picture as all 10,000.",
    f"On MNIST, for every attack and defense that was also run on all test images, the robust accuracies of the two "
    f"runs are at most {100 * _SAME:.0f} points apart.",
    not_adaptive="Adaptive attacks on all 10,000 images would take most of a day.",
)
def a_thousand_images_are_enough(view: View) -> list[Check]:
    """Claim 18."""
    whole = view.evidence.view(view.protocol, full=True)
    title = view.title(MNIST) if whole.title(MNIST) == MNIST.title else whole.title(MNIST)
    checks = []
    for attack in ATTACKS:
        sample = max((cell["n"] for cell in view.all(MNIST, attack)), default=0)
        for cell in whole.all(MNIST, attack):
            if cell["n"] <= sample:
                continue
            component, given = parameters(cell["defense"])
            wanted = {key: value for key, text in given.items() if (value := number(text)) is not None}
            checks.append(
                check(
                    title,
                    f"{cell['short']['defense']} against {attack.title}",
                    [one.reading(MNIST, attack, component, wanted) for one in (view, whole)],
                    lambda some, every: (
                        _SAME - abs(some - every),
                        f"{per_cent(some)} and {per_cent(every)} of all, {points(some - every)}",
                    ),
                )
            )
    return checks or [Check(title, "all images", "", None, missing=("all 10,000 images of MNIST not run",))]


def _range(view: View, dataset: DatasetSetting, attack: AttackSetting) -> Check:
    """The range of the robust accuracies over JPEG's qualities."""
    qualities = view.settings("jpeg", "quality", dataset)
    if len(qualities) < 2:
        return _lacking(view, dataset, attack, f"other JPEG qualities on {dataset.title} not run")

    def judge(*values: float) -> tuple[float, str]:
        return _HARDLY - (max(values) - min(values)), _series("quality", qualities, values)

    readings = [view.reading(dataset, attack, "jpeg", {"quality": quality}) for quality in qualities]
    return check(view.title(dataset), view.attack_title(dataset, attack), readings, judge)


def _hump(view: View, dataset: DatasetSetting, attack: AttackSetting) -> Check:
    """Whether k-means is best between 4 clusters and the largest number that was run."""
    numbers = view.settings("kmeans", "clusters", dataset)
    between = [clusters for clusters in numbers if _FEW < clusters < numbers[-1]]
    if _FEW not in numbers or not between:
        return _lacking(view, dataset, attack, f"other numbers of clusters on {dataset.title} not run")

    def judge(*values: float) -> tuple[float, str]:
        accuracy = dict(zip(numbers, values, strict=True))
        best = max(accuracy[clusters] for clusters in between)
        return best - max(accuracy[_FEW], values[-1]) - _HURTS, _series("clusters", numbers, values)

    readings = [view.reading(dataset, attack, "kmeans", {"clusters": clusters}) for clusters in numbers]
    return check(view.title(dataset), view.attack_title(dataset, attack), readings, judge)


def _series(parameter: str, settings: Sequence[float], values: Sequence[float]) -> str:
    """Robust accuracies in per cent, one for each setting: ``quality 25: 90.0, 50: 91.2``."""
    pairs = zip(settings, values, strict=True)
    return f"{parameter} " + ", ".join(f"{setting:g}: {100 * value:.1f}" for setting, value in pairs)


def _lacking(view: View, dataset: DatasetSetting, attack: AttackSetting, missing: str) -> Check:
    if not view.all(dataset, attack):
        missing = dataset.title
    return Check(view.title(dataset), attack.title, "", None, missing=(missing,))


ABLATION_CLAIMS = (jpeg_quality_hardly_matters, kmeans_is_sensitive, a_thousand_images_are_enough)
