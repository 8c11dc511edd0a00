"""Choose the threshold below which an answer is called unsure: its effect on right, wrong and meaningless drawings.

    python dev/bench/unsure.py model.onnx ../shared/mnist

Prints, for each threshold, the share called unsure: of correctly read drawings (the cost), of wrongly read ones and of
scribbles (the gain). Also the share of mistakes among the sure answers; a release's threshold keeps it below 0.5 %.
Then the share of single digits, and of two side by side, taken for more than one digit.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from pens import Model
from strokes import Stroke, mnist, painted, strokes_of

from digits.data.number import split
from digits.data.preprocessing import to_mnist

THRESHOLDS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.92, 0.94, 0.96, 0.98, 0.99)
WAYS: list[dict[str, Any]] = [
    {"pen": 0.05}, {"pen": 0.03, "slant": 0.4}, {"pen": 0.05, "slant": -0.3}, {"pen": 0.05, "turn": 0.3}
]  # fmt: skip


def scribble(random: np.random.Generator) -> list[Stroke]:
    """Return a smooth line that is no digit."""
    steps = random.normal(size=(random.integers(20, 60), 2)).cumsum(0)
    turns = np.stack([np.convolve(steps[:, i], np.ones(5) / 5, "valid") for i in range(2)], 1)
    spread = turns.max(0) - turns.min(0)
    return [[(float(x), float(y)) for x, y in (turns - turns.min(0)) / np.maximum(spread, 1e-6)]]


def side_by_side(left: list[Stroke], right: list[Stroke], gap: float) -> list[Stroke]:
    """Return two digits side by side with a gap of `gap` of their height."""
    edge = max(x for s in left for x, _ in s) - min(x for s in right for x, _ in s) + gap
    return left + [[(x + edge, y) for x, y in stroke] for stroke in right]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("mnist", type=Path)
    parser.add_argument("--count", type=int, default=2500)
    given = parser.parse_args()
    model, random = Model(given.model), np.random.default_rng(0)
    images, labels = mnist(given.mnist, "t10k")
    chosen = random.permutation(len(images))[: given.count]
    labels, strokes = labels[chosen], [strokes_of(images[i]) for i in chosen]
    drawn = [painted(s, **WAYS[i % len(WAYS)]) for i, s in enumerate(strokes)]
    probabilities = model([to_mnist(ink) for ink in drawn])
    best, right = probabilities.max(1), probabilities.argmax(1) == labels
    noise = model([to_mnist(painted(scribble(random), pen=0.05)) for _ in range(1000)]).max(1)
    print(f"{right.mean():.2%} right of {len(right)}; said to be unsure:")
    for limit in THRESHOLDS:
        shares = (np.mean(best[right] < limit), np.mean(best[~right] < limit), np.mean(noise < limit))
        print(
            f"  below {limit:.2f}: right {shares[0]:6.2%}  wrong {shares[1]:6.2%}  scribbles {shares[2]:6.2%}  "
            f"wrong of the sure {np.mean(~right[best >= limit]):.2%}"
        )
    alone = np.mean([len(split(ink)) > 1 for ink in drawn])
    print(f"taken for several: single digits {alone:.2%}")
    for gap in (0.05, 0.1, 0.2):
        pairs = [side_by_side(strokes[i], strokes[i + 1], gap) for i in range(0, 1000, 2)]
        print(f"  two with a gap of {gap}: {np.mean([len(split(painted(p, pen=0.04))) > 1 for p in pairs]):.2%}")


if __name__ == "__main__":
    main()
