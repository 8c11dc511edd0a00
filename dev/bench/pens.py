"""Does the pen matter? MNIST's test digits drawn with thin and thick pens, small and large, slanted and turned.

    python dev/bench/pens.py model.onnx ../shared/mnist --count 800

Prints, for each way of drawing, the share right and the share answered as the original picture is.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from strokes import mnist, painted, strokes_of

from digits.preprocessing import to_mnist

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
        """float32 (n, 10)."""
        scaled = np.stack(images)[..., None].astype(np.float32) / 255
        return np.concatenate([self.session.run(None, {self.input: s})[0] for s in np.array_split(scaled, 8)])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--count", type=int, default=800)
    given = parser.parse_args()
    model = Model(given.model)
    images, labels = mnist(given.mnist, "t10k")
    chosen = np.random.default_rng(0).permutation(len(images))[: given.count]
    labels, strokes = labels[chosen], [strokes_of(images[i]) for i in chosen]
    original = model(list(images[chosen])).argmax(1)
    print(f"original: {np.mean(original == labels):.2%} right")
    for way in WAYS:
        answers = model([to_mnist(painted(s, **way)) for s in strokes]).argmax(1)
        print(f"{way}: {np.mean(answers == labels):.2%} right, {np.mean(answers == original):.2%} as the original")


if __name__ == "__main__":
    main()
