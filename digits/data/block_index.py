"""The index of a data set in blocks: the file `index.json` of the set's folder.

    {"shape": of an image, "blocks": [{"count": images, "digest": of the block}, …], "stored": [object, …]}

The blocks are files of the folder, 0000.npz, 0001.npz, …. Those of a prepared set of several blocks are objects of the
object store instead, whose keys are "stored". The digest of the set is taken over the rest, wherever the blocks are.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from digits.files import canonical_json, parse_json, sha256_of, write_json

NAME = "index.json"


@dataclass(frozen=True)
class Block:
    """The number of images of a block, and its digest."""

    count: int
    digest: str


@dataclass(frozen=True)
class Index:
    """The shape of an image, the blocks, and their keys in the object store, none if they are in the folder."""

    shape: tuple[int, ...]
    blocks: tuple[Block, ...]
    stored: tuple[str, ...] = ()

    def digest(self) -> str:
        """Return the digest of the data set."""
        return sha256_of(canonical_json({"shape": self.shape, "blocks": [asdict(block) for block in self.blocks]}))

    def write(self, folder: Path) -> None:
        """Write the index to a folder, which is created if necessary."""
        folder.mkdir(parents=True, exist_ok=True)
        content = asdict(self)
        if not self.stored:
            del content["stored"]
        write_json(folder / NAME, content)


def read(folder: Path) -> Index:
    """Read the index in a folder.

    Raises:
        OSError, ValueError, TypeError, LookupError, AttributeError: it is missing or damaged.
    """
    content = parse_json((folder / NAME).read_bytes())
    blocks = tuple(Block(int(block["count"]), str(block["digest"])) for block in content["blocks"])
    index = Index(tuple(map(int, content["shape"])), blocks, tuple(map(str, content.get("stored", ()))))
    if len(index.stored) not in {0, len(blocks)}:
        raise ValueError(f"{len(index.stored)} objects of {len(blocks)} blocks")
    return index
