"""The 1,797 handwritten 8×8 digits that scikit-learn embeds (Alpaydin and Kaynak 1998): real data without a network."""

import gzip
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from kd_cli import ranges
from kd_cli.data.resident import Resident
from kd_cli.data.samples import Dataset
from kd_cli.data.splits import assemble, carve, stratified, whole
from kd_cli.errors import DataError

TEST_IMAGES = 599  # a third, fixed for good: changing it changes every figure ever reported
LARGEST_SIZE = 256


def digits(validation: float = 0, seed: int = 0, size: int = 8) -> Dataset:
    """Return the data set, pixels 0 … 16 scaled to 0 … 255, with a fixed stratified test split.

    Another `size` than 8 resizes the images bilinearly, in whole numbers, so that they are the same everywhere.
    """
    ranges.whole_number(".dataset.size", size, 1, LARGEST_SIZE)
    package = find_spec("sklearn")
    if package is None or package.origin is None:
        raise DataError("dataset=digits needs scikit-learn: pip install scikit-learn.")
    # Read from the package's own file: `import sklearn.datasets` alone takes 0.8 s.
    with gzip.open(Path(package.origin).parent / "datasets" / "data" / "digits.csv.gz", "rt", encoding="utf-8") as file:
        table = torch.from_numpy(np.loadtxt(file, delimiter=",", dtype=np.int64))
    pixels = (table[:, :-1] * 255 // 16).to(torch.uint8).view(-1, 1, 8, 8)
    if size != 8:
        small = [Image.fromarray(image) for image in pixels[:, 0].numpy()]
        resized = [np.asarray(image.resize((size, size), Image.Resampling.BILINEAR)) for image in small]
        pixels = torch.from_numpy(np.stack(resized)).unsqueeze(1)
    everything = whole(Resident(pixels), table[:, -1])
    # The first third of this draw served to compare recipes, so it is for training; the test split is the second third.
    untouched, _ = carve(everything, TEST_IMAGES, seed=0)
    test = untouched.select(stratified(untouched.labels, TEST_IMAGES, seed=0))
    train = everything.select(torch.isin(everything.index, test.index).logical_not().nonzero()[:, 0])
    return assemble(
        "digits",
        train,
        test,
        [str(k) for k in range(10)],
        (1, size, size),
        validation,
        seed,
    )
