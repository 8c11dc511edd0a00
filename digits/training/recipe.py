"""How a network is trained: the presets, and what a user may choose. It needs no TensorFlow."""

from __future__ import annotations

import math
from dataclasses import dataclass

from digits.errors import UsageError

MODELS = ("default", "baseline")

# Keras's optimizers, each with the peak of its learning rate over training, for batches of 256 images. Its FTRL is left
# out: made for sparse linear models, it starts from weights of 0, and a network does not learn with it.
OPTIMIZERS = {
    "adadelta": 2.0,
    "adafactor": 2e-2,
    "adagrad": 5e-2,
    "adam": 1e-2,
    "adamax": 2e-2,
    "adamw": 1e-2,
    "lamb": 2e-2,
    "lion": 1e-3,
    "muon": 1e-2,
    "nadam": 5e-3,
    "rmsprop": 2e-3,
    "schedulefreeadamw": 5e-3,
    "sgd": 1e-1,
}


@dataclass(frozen=True)
class Augmentation:
    """How far training images are changed, each by itself; the ranges are symmetric and drawn from evenly."""

    rotation: float = 0.0  # degrees
    slant: float = 0.0  # pixels to the side for each pixel down
    scale: float = 0.0  # of width and of height, as a share
    shift: float = 0.0  # pixels, each way
    stroke: float = 0.0  # share of the images whose strokes are made thicker or thinner, by up to a pixel each side


@dataclass(frozen=True)
class Preset:
    """A tuned way of training. `network` is a name of `digits.training.networks.NETWORKS`."""

    network: str
    epochs: int
    batch_size: int
    augmentation: Augmentation
    plain: float = 0.0  # share of the steps, the last ones, that see the images as they are
    styles: float = 0.0  # images drawn by digits.training.pen_styles, for each training image


# As much as makes other people's digits readable without losing accuracy on MNIST's; measured by dev/bench/pens.py.
_LIKE_PENS = Augmentation(rotation=12, slant=0.1, scale=0.15, shift=1.2, stroke=0.15)
_FURTHER = Augmentation(rotation=15, slant=0.2, scale=0.2, shift=1, stroke=0.7)  # for whom many epochs follow
_STYLES = 0.05

PRESETS = {
    "fast": Preset("small", 3, 256, _LIKE_PENS, styles=_STYLES),
    "accurate": Preset("large", 9, 256, _FURTHER, plain=0.2, styles=_STYLES),
}


@dataclass(frozen=True)
class TrainingConfig:
    """What a user may choose. 0 means: as the preset has it.

    Raises:
        UsageError: a value is none of those known, or out of range; says what was expected and what came.
    """

    preset: str = "fast"
    model: str = "default"
    epochs: int = 0
    optimizer: str = "adam"
    batch_size: int = 0
    learning_rate: float = 0.0  # the peak, where the preset has a schedule
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("preset", self.preset, PRESETS),
            ("model", self.model, MODELS),
            ("optimizer", self.optimizer, OPTIMIZERS),
        ):
            if value not in known:
                raise UsageError(f"{name}: expected one of {', '.join(known)}, got {value!r}")
        for name, number, most in (
            ("epochs", self.epochs, math.inf),
            ("batch_size", self.batch_size, math.inf),
            ("learning_rate", self.learning_rate, math.inf),
            ("seed", self.seed, 2**31 - 1),
        ):
            if not (math.isfinite(number) and 0 <= number <= most):
                raise UsageError(f"{name}: expected a number from 0{f' to {most}' * (most < math.inf)}, got {number}")

    @property
    def how(self) -> Preset:
        """The preset that this choice comes to."""
        return BASELINE if self.model == "baseline" else PRESETS[self.preset]

    @property
    def in_force(self) -> dict[str, float]:
        """What stands for 0: the preset's epochs and batch size, and the peak of the learning rate (not baseline's)."""
        batch_size = self.batch_size or self.how.batch_size
        usual = 0.0 if self.how is BASELINE else round(peak_rate(self, batch_size), 6)
        rate = self.learning_rate or usual
        return {"epochs": self.epochs or self.how.epochs, "batch_size": batch_size, "learning_rate": rate}


# The earlier design, to compare with: `digits.training.fit` fits it as that did, with Keras's `fit`.
BASELINE = Preset("baseline", 3, 20, Augmentation())


def peak_rate(config: TrainingConfig, batch_size: int) -> float:
    """The highest learning rate: the one chosen, or the optimizer's for this batch size."""
    return config.learning_rate or OPTIMIZERS[config.optimizer] * math.sqrt(batch_size / 256)


def learning_rates(config: TrainingConfig, steps: int, batch_size: int) -> list[float]:
    """The learning rate of each of `steps` steps: half a cosine up to the peak, then half a cosine down to 0."""
    peak = peak_rate(config, batch_size)
    up = max(1, round(0.3 * steps))
    rise = [0.04 + 0.96 * (1 - math.cos(math.pi * i / up)) / 2 for i in range(up)]
    fall = [(1 + math.cos(math.pi * (i + 1) / (steps - up))) / 2 for i in range(steps - up)]
    return [peak * share for share in (*rise, *fall)][:steps]
