"""The error tree: every fault that a user can cause or meet has a class here.

A command catches `CxrError`, prints its one line and exits with `exit_code`; anything else is a bug and
keeps its traceback. A message says where, what was found, what was expected and what to do.
"""

from __future__ import annotations


class CxrError(Exception):
    """Any fault with a clear line for the user. Exit code 1: the data or the run is at fault."""

    exit_code = 1

    def __str__(self) -> str:
        """Return one line, whatever a table's cell or a file's name put into it."""
        text = " ".join(super().__str__().split())
        return "".join(
            character if character.isprintable() else character.encode("unicode_escape").decode()
            for character in text
        )


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
