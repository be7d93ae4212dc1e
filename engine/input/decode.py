"""Compressed pictures of records to pixels, written where the batch wants them.

OpenCV decodes, since it lets other threads run meanwhile: JPEG by libjpeg-turbo with its accurate transform,
PNG by libpng. kornia-rs takes less than half of libpng's time, but holds the interpreter's lock meanwhile:
the other cores and the training loop would wait.
"""

from __future__ import annotations

import cv2
import numpy as np

from records.errors import RecordError


def into(data: np.ndarray, out: np.ndarray) -> None:
    """Decode a PNG or JPEG into one picture of a batch.

    Args:
        data: (bytes,) uint8.
        out: (rows, columns, channels) uint8 to be filled, of 1 or 3 channels; a coloured picture is made grey
            for 1, a grey one repeated for 3. Untouched if the picture can't be decoded or is of another size.

    Raises:
        RecordError: the picture is damaged or of another size; `out` says which one was expected.
    """
    # With the channels in the stored order already, no copy has to turn them around.
    mode = cv2.IMREAD_GRAYSCALE if out.shape[2] == 1 else cv2.IMREAD_COLOR_RGB
    try:
        picture = cv2.imdecode(data, mode)
    except cv2.error:
        picture = None
    if picture is None:
        raise RecordError(f"the picture is undecodable; expected {out.shape}")
    shape = (*picture.shape[:2], out.shape[2])
    if shape != out.shape:
        raise RecordError(f"the picture is of shape {shape}; expected {out.shape}")
    out[...] = picture.reshape(shape)
