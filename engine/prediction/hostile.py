"""Keeps in check what others' parsers do with files that may be damaged, hostile or full of patient data."""

from __future__ import annotations

import contextlib
import logging
import threading
import warnings
from collections.abc import Iterator

from records.errors import ImageError

# The filters of warnings belong to the whole process, and a server reads in several threads.
_ONE_AT_A_TIME = threading.RLock()


@contextlib.contextmanager
def parsing(kind: str) -> Iterator[None]:
    """Turn whatever a parser raises into an ImageError, and keep what it would say to itself.

    Its messages quote values of the file, so none of them gets through; the class of the error does.

    Args:
        kind: of the file, for the reason.

    Raises:
        ImageError: from within the block, as it is or in place of any other exception.
    """
    logger = logging.getLogger("pydicom")
    with _ONE_AT_A_TIME, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        usual_level = logger.level
        logger.setLevel(logging.CRITICAL + 1)
        try:
            yield
        except ImageError:
            raise
        except Exception as error:
            raise ImageError(f"damaged {kind}: it can't be decoded ({type(error).__name__})") from None
        finally:
            logger.setLevel(usual_level)
