"""Test-time augmentation: fixed views of a picture, over which a model's predictions are averaged.

Nothing here is random, and nothing is mirrored: a mirrored chest has its heart on the other side. Nothing
needs TensorFlow. B = pictures, S = side, C = channels. A view is (dy, dx, degrees): the picture is turned by
`degrees` about its centre, counter-clockwise, and then moved by dy down and dx to the right, in shares of
its side; what comes in from outside is black, as in training.
"""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from records.errors import ConfigError

View = tuple[float, float, float]
IDENTITY: View = (0.0, 0.0, 0.0)

NONE, SHIFT, ROTATE = "none", "shift", "rotate"
# Within what training varies by default, with the picture itself among them.
_SHIFT_SHARE = 0.02
_DEGREES = 4.0
VIEWS: dict[str, tuple[View, ...]] = {
    NONE: (IDENTITY,),
    SHIFT: (
        IDENTITY,
        (-_SHIFT_SHARE, 0.0, 0.0),
        (_SHIFT_SHARE, 0.0, 0.0),
        (0.0, -_SHIFT_SHARE, 0.0),
        (0.0, _SHIFT_SHARE, 0.0),
    ),
    ROTATE: (IDENTITY, (0.0, 0.0, -_DEGREES), (0.0, 0.0, _DEGREES)),
}


def named(name: str) -> tuple[View, ...]:
    """Return the views of a kind of test-time augmentation.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in VIEWS:
        raise ConfigError(f"test-time augmentation is `{name}`; expected one of {', '.join(VIEWS)}")
    return VIEWS[name]


def apply(images: np.ndarray, view: Sequence[float]) -> np.ndarray:
    """Show pictures as one view has them.

    Args:
        images: (B, S, S, C) uint8.
        view: (dy, dx, degrees), see above.

    Returns:
        (B, S, S, C) uint8, interpolated bilinearly; `images` itself for the identity.
    """
    down, right, degrees = view
    if not (down or right or degrees):
        return images
    side = images.shape[1]
    centre = (side - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), degrees, 1.0)
    matrix[:, 2] += (right * side, down * side)
    moved = [
        cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        for image in images
    ]
    return np.array(moved, np.uint8).reshape(images.shape)  # OpenCV drops a single channel
