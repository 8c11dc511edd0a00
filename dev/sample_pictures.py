"""Make a folder of pictures to try a task of one's own: pieces of three photos that installed packages have.

    python dev/sample_pictures.py FOLDER

Each class is a sub-folder: building and flower (scikit-learn), portrait (matplotlib).
"""

import importlib.metadata
import sys
from pathlib import Path

from PIL import Image

PHOTOS = {
    "building": ("scikit-learn", "sklearn/datasets/images/china.jpg"),
    "flower": ("scikit-learn", "sklearn/datasets/images/flower.jpg"),
    "portrait": ("matplotlib", "matplotlib/mpl-data/sample_data/grace_hopper.jpg"),
}
SIDE, STEP = 32, 24  # pixels


def write_pictures(folder: Path) -> None:
    """Write overlapping square pieces of each photo to a sub-folder of its class."""
    for label, (package, file) in PHOTOS.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        photo = Image.open(str(importlib.metadata.distribution(package).locate_file(file))).convert("RGB")
        for top in range(0, photo.height - SIDE + 1, STEP):
            for left in range(0, photo.width - SIDE + 1, STEP):
                piece = photo.crop((left, top, left + SIDE, top + SIDE))
                piece.save(folder / label / f"{top:03}-{left:03}.png")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_pictures(Path(sys.argv[1]))
