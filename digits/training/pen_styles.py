"""Generated digits in styles that MNIST lacks, drawn with random strokes of a pen.

MNIST's writers are Americans of the 1990s. Elsewhere a 0 has a slash, a 1 a flag and perhaps a foot, a 7 a bar, a 9 a
small head and a curled tail, a 6 a small bowl, an 8 open or narrow loops, and a 4 is open. A few thousand of these
among the training images suffice for a network to recognise such digits; dev/bench/pens.py measures this on real pen
drawings. `glyphs` has the forms.

A glyph is drawn in a box that is 1 high and about 1 wide, x to the right and y down. It is then placed as the reader
places a drawing: 20 pixels on the longer side, the centre of mass in the middle of 28 x 28 pixels.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from digits.data.preprocessing import BOX, FIELD
from digits.training.glyphs import FORMS, Points, Random

_FINE = 4  # samples per pixel while a glyph is drawn
_FRACTION_BITS = 4  # of OpenCV's coordinates
_PEN_WIDTH = (1.7, 2.9)  # range in pixels
_WIDTH = (0.6, 1.0)  # range of a glyph's width, as a share of its template's
_SLANT = (-0.35, 0.15)  # range of the shift to the right per unit down
_BEND = 0.03  # largest deflection of a point by the waves that bend a glyph


def generate(count: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Return images, uint8 (count, 28, 28) in 0..255, and their labels, uint8 (count,).

    All forms are equally frequent. The same `seed` gives the same images.
    """
    rng = np.random.default_rng(seed)
    forms = [FORMS[i % len(FORMS)] for i in range(count)]
    images = [_paint(draw(rng), rng) for _, draw in forms]
    return np.array(images, np.uint8).reshape(-1, FIELD, FIELD), np.array([label for label, _ in forms], np.uint8)


def _paint(strokes: list[Points], rng: Random) -> npt.NDArray[np.uint8]:
    """Return the strokes, narrowed, slanted and bent at random, as an image, uint8 (28, 28)."""
    pen = rng.uniform(*_PEN_WIDTH)
    shape = np.array([[rng.uniform(*_WIDTH), rng.uniform(*_SLANT)], [0, 1]])
    points = np.vstack(strokes) @ shape.T
    waves, phases = rng.uniform(np.pi, 2.6 * np.pi, 2), rng.uniform(0, 2 * np.pi, 2)
    points += rng.uniform(-_BEND, _BEND, 2) * np.sin(waves * points[:, ::-1] + phases)
    lines = np.split(points, np.cumsum([len(stroke) for stroke in strokes[:-1]]))
    scale = (BOX - pen) / np.ptp(points, axis=0).max()
    starts, ends = (np.vstack([line[part] for line in lines]) for part in (slice(None, -1), slice(1, None)))
    lengths = np.hypot(*(ends - starts).T)
    centre = ((starts + ends) / 2 * lengths[:, None]).sum(0) / lengths.sum()
    picture = np.zeros((FIELD * _FINE, FIELD * _FINE), np.uint8)
    for line in lines:
        # A pixel's middle has the coordinates of its index, and the reader's middle is that of pixel 14.
        place = ((line - centre) * scale + FIELD / 2 + 0.5) * _FINE - 0.5
        fixed = np.rint(place * 2**_FRACTION_BITS).astype(np.int32)
        cv2.polylines(picture, [fixed], False, 255, round(pen * _FINE), cv2.LINE_8, _FRACTION_BITS)
    image: npt.NDArray[np.uint8] = cv2.resize(picture, (FIELD, FIELD), interpolation=cv2.INTER_AREA)
    return image
