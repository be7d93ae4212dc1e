"""The error tree: every fault that a user can cause or meet has a class here.

A command catches `CxrError`, prints its one line and exits with `exit_code`; anything else is a bug and
keeps its traceback. A message says where, what was found, what was expected and what to do.
"""

from __future__ import annotations

import os
import re

# Of a URL: user and password, which may hold a slash by mistake, and the values that sign a request.
_USER = re.compile(r"(?<=http://)[^\s'\"`]*@|(?<=https://)[^\s'\"`]*@|(?<=://)[^\s/'\"`]*@")
_SIGNED = re.compile(
    r"(?i)(?<=[?&])((?:x-(?:amz|goog)-)?(?:signature|credential|security-token)|sig|token)=[^&\s'\"`]+"
)
_SECRET_VARIABLES = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")
# A shorter value is no secret, and would be found in any word.
_SECRET_CHARACTERS = 8


class CxrError(Exception):
    """Any fault with a clear line for the user. Exit code 1: the data or the run is at fault."""

    exit_code = 1

    def __str__(self) -> str:
        """Return one line without credentials, whatever a cell, a file's name or a client put into it."""
        text = without_credentials(" ".join(super().__str__().split()))
        return "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in text
        )


def without_credentials(text: str) -> str:
    """Return a text with `***` for credentials: in its URLs, and those of the environment."""
    text = _SIGNED.sub(r"\1=***", _USER.sub("***@", text))
    for variable in _SECRET_VARIABLES:
        if len(value := os.environ.get(variable, "")) >= _SECRET_CHARACTERS:
            text = text.replace(value, "***")
    return text


class UsageError(CxrError):
    """The command was called wrongly. Exit code 2."""

    exit_code = 2


class ConfigError(UsageError):
    """A config file or an override of one of its keys is wrong."""


class TableError(CxrError):
    """A label table, split list or box list is not what the NIH publishes."""


class ImageError(CxrError):
    """An image file can't be turned into pixels; the message is the reason that quarantine lists."""


class RecordError(CxrError):
    """A serialized record doesn't hold what the schema says."""


class ShardError(CxrError):
    """A TFRecord shard is missing, truncated, corrupt or not the one that the manifest names."""


class ManifestError(CxrError):
    """A manifest is missing, of another schema version, or contradicts itself."""


class StorageError(CxrError):
    """A path or object can't be read or written."""


class RunError(CxrError):
    """A run directory is unfinished, foreign or can't be used as asked."""


class WorkerError(CxrError):
    """A conversion's runner can't be used, or it or one of its worker processes died."""
