"""The records of shards in S3, read by TensorFlow itself through tensorflow-io's file system.

Responsible for what that file system needs: whether it can be loaded, settings as boto3 would find them, a
bounded buffer, errors that say where, an end of the process without an abort. Batches are made of the records
by `tfrecord_reader`; nothing is kept on disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import re
import warnings
from collections.abc import Iterator
from typing import Any

import tensorflow as tf

from records import manifest as manifests
from records.errors import ConfigError, StorageError
from records.manifest import Manifest

LOADS_WITH = ("2.16", "2.17")
# Of each request, and kept of the one file that is open. 1 MiB is half as fast, 16 MiB no faster.
BUFFER_BYTES = 8 << 20
# By itself the client waits five minutes for each connection and tries again for minutes where the store is
# down; so it is half a minute. Only its standard mode heeds the number of attempts.
_PATIENCE = {
    "S3_CONNECT_TIMEOUT_MSEC": "10000",
    "S3_REQUEST_TIMEOUT_MSEC": "60000",
    "AWS_RETRY_MODE": "standard",
    "AWS_MAX_ATTEMPTS": "5",
}
# As boto3 names where credentials came from: the client asks these sources itself, and again before they end.
_ASKED_BY_THE_CLIENT = ("env", "iam-role", "container-role", "assume-role-with-web-identity")


def serialized_records(manifest: Manifest, split: str) -> tf.data.Dataset:
    """Return a split's records, one shard after the other, read from S3 anew in each iteration.

    Args:
        manifest: of a data set in S3.
        split: train, validation or test.

    Returns:
        () string each, in the index's order; TensorFlow checks each record's CRC32C.

    Raises:
        ConfigError: the data set isn't in S3, or tensorflow-io isn't installed or can't be loaded.
        StorageError: the AWS settings contradict themselves.
    """
    paths = [manifest.locate(shard) for shard in manifest.splits[split].shards]
    if not manifest.location.startswith("s3://"):
        raise ConfigError(
            f"input.reader is `tfio` and the data set {manifest.location}; expected one in s3://: "
            "use --set input.reader=index"
        )
    open_s3()
    # TensorFlow 2.17 raises any buffer to 127 MiB where all names begin with s3://, and reading then takes
    # 280 MB more. The empty device, a shard of no records, keeps it from that; the public data set would give
    # the kernel one name at a time.
    records = tf.raw_ops.TFRecordDataset(
        filenames=[*paths, os.devnull], compression_type="", buffer_size=BUFFER_BYTES
    )
    return tf.data.experimental.from_variant(records, tf.TensorSpec([], tf.string))


def open_s3() -> None:
    """Make `s3://` paths readable for TensorFlow; the first call in a process loads tensorflow-io.

    Raises:
        ConfigError: tensorflow-io isn't installed, or doesn't load with the TensorFlow that is.
        StorageError: the AWS settings contradict themselves.
    """
    if not tf.__version__.startswith(tuple(f"{version}." for version in LOADS_WITH)):
        raise _cannot_load(f"TensorFlow {tf.__version__} is installed")
    os.environ.update(client_settings())
    _load()


@contextlib.contextmanager
def faults_raised(manifest: Manifest) -> Iterator[None]:
    """Raise an error that says where, if TensorFlow fails to read `serialized_records` inside the block.

    Raises:
        ShardError: a shard is missing or of another size.
        StorageError: the store, or a record; with what TensorFlow says.
    """
    try:
        yield
    except tf.errors.OpError as error:
        # An error of the step itself names other operations.
        if "IteratorGetNext" not in error.message:
            raise
        # TensorFlow doesn't say which shard; boto3 does, if it finds fault with one.
        manifests.check_files(manifest)
        raise StorageError(
            f"{manifest.location}: TensorFlow can't read the shards ({type(error).__name__}: "
            f"{_own_words(error.message)}); input.reader=index says which, and why"
        ) from None


def client_settings() -> dict[str, str]:
    """Return the variables by which tensorflow-io's S3 client does as boto3 would, less those that are set.

    The client knows no endpoint of the AWS conventions, and of a profile only what it could hold in 2021.
    Credentials that it can't obtain itself are given as they are now, and aren't renewed.

    Raises:
        StorageError: the AWS settings contradict themselves.
    """
    import botocore.session
    from botocore.exceptions import BotoCoreError
    from botocore.httpsession import get_cert_path

    session = botocore.session.get_session()
    try:
        client = session.create_client("s3")
        credentials = session.get_credentials()
        settings = {
            **_PATIENCE,
            "S3_ENDPOINT": client.meta.endpoint_url,
            "S3_CA_FILE": get_cert_path(session.get_config_variable("ca_bundle") or True),
            **_key(credentials),
        }
    except BotoCoreError as error:
        raise StorageError(f"s3://: the AWS settings can't be used: {error}") from error
    if "AWS_DEFAULT_REGION" not in os.environ:
        settings["AWS_REGION"] = client.meta.region_name
    return {name: value for name, value in settings.items() if name not in os.environ}


def _key(credentials: Any) -> dict[str, str]:
    """Return the variables of an access key; none where the client obtains it, or where there is none."""
    if credentials is None or credentials.method in _ASKED_BY_THE_CLIENT:
        return {}
    key = credentials.get_frozen_credentials()
    named = {
        "AWS_ACCESS_KEY_ID": key.access_key,
        "AWS_SECRET_ACCESS_KEY": key.secret_key,
        "AWS_SESSION_TOKEN": key.token,
    }
    return {name: value for name, value in named.items() if value}


@functools.cache
def _load() -> None:
    try:
        with warnings.catch_warnings():
            # What can't be loaded is a warning there.
            warnings.simplefilter("error", UserWarning)
            import tensorflow_io  # noqa: F401
    except ModuleNotFoundError as error:
        raise _cannot_load("tensorflow-io is not installed") from error
    except (ImportError, UserWarning) as error:
        raise _cannot_load(f"tensorflow-io can't be loaded: {' '.join(str(error).split())[:200]}") from error
    if "s3" not in tf.io.gfile.get_registered_schemes():
        raise _cannot_load("tensorflow-io is installed without its S3 file system")
    _end_without_abort()


def _end_without_abort() -> None:
    """Have the C library leave, with the exit code it was given, before it takes the S3 client down.

    Its parts are taken down in the wrong order, which aborts the process (tensorflow/io#2039). Handlers that
    are registered after the library is loaded run before that, and after Python has finished its own end.
    """
    libc = ctypes.CDLL(None)
    if hasattr(libc, "on_exit"):  # of the GNU C library
        libc.on_exit(libc._exit, None)


def _cannot_load(found: str) -> ConfigError:
    return ConfigError(
        f"input.reader is `tfio`, but {found}; tensorflow-io reads s3:// with TensorFlow "
        f"{' and '.join(LOADS_WITH)} only: install 'cxr-engine[tfio]' into an environment of its own, of "
        "Python 3.10 to 3.12, or use --set input.reader=index"
    )


def _own_words(message: str) -> str:
    """Return what the file system said, without where in the graph TensorFlow heard it."""
    for line in reversed(message.splitlines()):
        words = re.sub(r"\{\{.*?\}\}|\[Op:.*|\[\[.*", "", line).strip(" :\t")
        if words:
            return words
    return "no reason given"
