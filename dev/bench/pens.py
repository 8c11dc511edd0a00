"""Does the pen matter, and the hand? Drawings as the page would paint them, read as the page reads them.

    python dev/bench/pens.py model.onnx --mnist ../shared/mnist --count 800
    python dev/bench/pens.py model.onnx --unipen pendigits-orig.tes unipen/data/1a

MNIST's test digits are drawn with thin and thick pens, small and large, slanted and turned; prints, for each way, the
share right and the share answered as the original picture is. Of real pen drawings in UNIPEN's format, a file or all
files of a folder, the share right of each digit, and which are taken for which.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from strokes import mnist, painted, strokes_of, unipen

from digits.data.number import Digit, decide, images_of
from digits.data.preprocessing import to_mnist
from digits.evaluation.verdict import judge

PENS = (0.01, 0.02, 0.035, 0.055, 0.08)
WAYS = [{"pen": pen, "fill": fill} for fill in (0.75, 0.35) for pen in PENS]
WAYS += [{"pen": 0.05, "slant": 0.4}, {"pen": 0.05, "slant": -0.3}, {"pen": 0.05, "turn": 0.25}]


class Model:
    """The ten probabilities of images, uint8 (n, 28, 28), from a release's ONNX file."""

    def __init__(self, path: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.input = self.session.get_inputs()[0].name

    def __call__(self, images: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Return the probabilities, float32 (n, 10)."""
        scaled = np.stack(images)[..., None].astype(np.float32) / 255
        return np.concatenate([self.session.run(None, {self.input: s})[0] for s in np.array_split(scaled, 8)])

    def read(self, digits: Sequence[Digit], threshold: float | None) -> tuple[str, bool]:
        """Return the answer to the digits of a picture, '' if there are none, and whether it is sure, as the page's."""
        digits, shares = decide(digits, list(self(images_of(digits))) if digits else [])
        sure = judge(shares, [digit.doubtful for digit in digits], threshold).state == "sure"
        return "".join(str(each.argmax()) for each in shares), sure


def of_mnist(model: Model, folder: Path, count: int) -> None:
    """Measure and print the effect of the pen on MNIST's test digits."""
    images, labels = mnist(folder, "t10k")
    chosen = np.random.default_rng(0).permutation(len(images))[:count]
    labels, strokes = labels[chosen], [strokes_of(images[i]) for i in chosen]
    original = model(list(images[chosen])).argmax(1)
    print(f"original: {np.mean(original == labels):.2%} right")
    for way in WAYS:
        answers = model([to_mnist(painted(s, **way)) for s in strokes]).argmax(1)
        print(f"{way}: {np.mean(answers == labels):.2%} right, {np.mean(answers == original):.2%} as the original")


def of_writers(model: Model, path: Path) -> None:
    """Measure and print how well real pen drawings are read."""
    files = sorted(each for each in path.rglob("*") if each.is_file()) if path.is_dir() else [path]
    labels, drawings = zip(*(digit for file in files for digit in unipen(file)), strict=True)
    answers = model([to_mnist(painted(strokes, pen=0.05)) for strokes in drawings]).argmax(1)
    right = answers == labels
    print(f"{path.name}: {np.mean(right):.2%} of {len(right)} right")
    for digit in range(10):
        print(f"  {digit}: {np.mean(right[np.array(labels) == digit]):.1%}")
    wrong = Counter((label, int(answer)) for label, answer in zip(labels, answers, strict=True) if label != answer)
    print("  " + ", ".join(f"{a} for {b}: {n}" for (b, a), n in wrong.most_common(8)))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--mnist", type=Path)
    parser.add_argument("--count", type=int, default=800)
    parser.add_argument("--unipen", type=Path, nargs="*", default=[])
    given = parser.parse_args()
    model = Model(given.model)
    if given.mnist:
        of_mnist(model, given.mnist, given.count)
    for path in given.unipen:
        of_writers(model, path)


if __name__ == "__main__":
    main()
