"""Are printed digits read? The ten digits of every font in a folder, by style.

    apt-get download fonts-dejavu-core fonts-liberation … && for each in *.deb; do dpkg -x $each fonts; done
    python dev/bench/printed.py model.onnx fonts --hand dancing isabella

Each digit is printed 180 pixels high on white paper of 280 x 280 pixels. Fonts without digits and fonts whose digits
are those of another file are left out. A font is handwriting if its file's path contains a word of --hand. Prints, per
style, the shares read correctly, called sure, and called sure and wrong.
"""

from __future__ import annotations

import argparse
import io
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
from pens import Model
from PIL import Image, ImageDraw, ImageFont

from digits.data.reader import read_images
from digits.tasks.task import BUILT_IN, find

SIDE = 280


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("fonts", type=Path)
    parser.add_argument("--hand", nargs="*", default=[])
    given = parser.parse_args()
    model, manifest = Model(given.model), given.model.with_name("manifest.json")
    threshold = json.loads(manifest.read_text())["calibration"]["threshold"] if manifest.exists() else None
    known, rows = set[bytes](), defaultdict[str, list[tuple[bool, bool, bool]]](list)
    for path in sorted(given.fonts.rglob("*.[ot]tf")):
        font = ImageFont.truetype(str(path), 180)
        shapes = [bytes(font.getmask(str(digit))) for digit in range(10)]
        if len(set(shapes)) < 10 or not all(any(shape) for shape in shapes) or b"".join(shapes) in known:
            continue
        known.add(b"".join(shapes))
        name = font.getname()[1] or ""
        bold = any(word in name for word in ("Bold", "Black", "Heavy", "Demi"))
        italic = any(word in name for word in ("Italic", "Oblique"))
        style = ("bold " if bold else "") + ("italic" if italic else "") or "regular"
        if any(word.lower() in str(path.relative_to(given.fonts)).lower() for word in given.hand):
            style = "handwriting"
        for digit in range(10):
            sheet, file = Image.new("L", (SIDE, SIDE), 255), io.BytesIO()
            ImageDraw.Draw(sheet).text((SIDE // 2, SIDE // 2), str(digit), fill=0, font=font, anchor="mm")
            sheet.save(file, "PNG")
            answer, sure = model.read(read_images(find(BUILT_IN), file), threshold)
            right = answer == str(digit)
            rows[style.strip()].append((right, sure, sure and not right))
    rows["all"] = [row for each in list(rows.values()) for row in each]
    print(f"{'style':14} fonts  right   sure  sure and wrong")
    for style, each in rows.items():
        print(f"{style:14} {len(each) // 10:5} " + " ".join(f"{share:6.1%}" for share in np.mean(each, 0)))


if __name__ == "__main__":
    main()
