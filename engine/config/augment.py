"""How training pictures are varied: section `augment`."""

from __future__ import annotations

from dataclasses import dataclass

from engine.config.checks import below_one, between


@dataclass(frozen=True)
class AugmentConfig:
    """How training pictures are varied, inside the compiled step; each range is symmetric, 0 turns it off.

    Attributes:
        rotation_degrees: by up to so many either way.
        zoom: by a factor from 1 - zoom to 1 + zoom.
        shift: by up to this share of the side along each axis.
        brightness: up to this share of the full scale added or taken away.
        contrast: by a factor from 1 - contrast to 1 + contrast about the picture's own mean.
        flip: whether every second picture is mirrored; the heart then lies on the right.
        originals: whether all records are varied; false: only the repeats of oversampled ones.
    """

    rotation_degrees: float
    zoom: float
    shift: float
    brightness: float
    contrast: float
    flip: bool
    originals: bool

    def __post_init__(self) -> None:
        between("augment.rotation_degrees", self.rotation_degrees, 0, 180)
        between("augment.shift", self.shift, 0, 1)
        between("augment.brightness", self.brightness, 0, 1)
        between("augment.contrast", self.contrast, 0, 1)
        below_one("augment.zoom", self.zoom)

    @property
    def is_on(self) -> bool:
        """Whether any picture can differ from the stored one."""
        ranges = (self.rotation_degrees, self.zoom, self.shift, self.brightness, self.contrast)
        return self.flip or any(ranges)
