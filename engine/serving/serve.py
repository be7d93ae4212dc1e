"""`engine serve`: a run's page and API, until it is told to stop."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from engine import backend
from engine.evaluation import models
from engine.serving.bounds import Bounds
from engine.training import run_data_set, run_directory
from engine.training.run_directory import RunDirectory
from records import manifest
from records.errors import CxrError, RunError, UsageError
from records.manifest import Manifest

if TYPE_CHECKING:
    from engine.serving.samples import Samples
    from engine.serving.service import Service


def run(
    run_dir: str,
    *,
    data: str | None = None,
    boxes: str | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    bounds: Bounds | None = None,
) -> int:
    """Serve a run until SIGINT or SIGTERM; requests in flight are finished then.

    Args:
        run_dir: folder of the run or ensemble.
        data: location of its data set's manifest, whose test split is shown; None: no samples.
        boxes: location of `BBox_List_2017.csv`, for samples; None: no boxes.
        host: name or address to bind to. On a loopback address only requests to this machine's own names are
            answered; any other is open to whoever can reach it.
        port: to bind to; 0: any that is free.
        bounds: of what is taken on; None: the usual ones.

    Returns:
        0: it was told to stop.

    Raises:
        UsageError: an impossible port, or boxes without data.
        CxrError: run or data set are at fault, the port is taken, or the server's libraries are missing.
    """
    listening = _listening()
    if not 0 <= port <= 65535:
        raise UsageError(f"--port {port}; expected 0 to 65535")
    if boxes and not data:
        raise UsageError("--boxes needs --data: they are drawn over its images")
    known = RunDirectory(run_dir).read()
    models.find(run_dir)
    data_set = _data_set(known, data)
    bounds = bounds or Bounds()
    with listening.bind(host, port) as bound:
        service = _service(run_dir, known, data_set, boxes, bounds, shown=bool(data))
        try:
            listening.until_stopped(listening.server(service, host), bound)
        finally:
            if service.samples:
                service.samples.close()
    return 0


def _listening() -> ModuleType:
    try:
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import python_multipart  # noqa: F401

        from engine.serving import listening
    except ImportError as error:
        raise UsageError(
            f"`engine serve` needs more libraries ({error}); install them by: pip install 'cxr-engine[serve]'"
        ) from error
    return listening


def _data_set(known: dict[str, Any], data: str | None) -> Manifest | None:
    """Return the run's data set; one that was asked for must be there, and be the run's."""
    try:
        return run_data_set.find(known, data)
    except CxrError:
        if data:
            raise
        return None


def _service(
    run_dir: str,
    known: dict[str, Any],
    data_set: Manifest | None,
    boxes: str | None,
    bounds: Bounds,
    *,
    shown: bool,
) -> Service:
    """Load the models and the samples, and warm up."""
    _say(f"loading {Path(run_dir)} ...")
    backend.load()
    from engine.serving import card
    from engine.serving.served_model import ServedModel
    from engine.serving.service import Service

    if known["state"] != run_directory.FINISHED:
        _say(f"note: {run_dir}: {run_directory.summary(RunDirectory(run_dir))}")
    model = ServedModel(
        run_dir, bounds.batch, run_data_set.jpeg_quality(known, data_set.location if data_set else None)
    )
    if model.note:
        _say(f"note: {model.note}")
    samples = _samples(run_dir, model, data_set, boxes) if shown and data_set else None
    phantom = bool(data_set and data_set.source.get("phantom"))
    told = card.make(
        run_dir,
        model,
        phantom=phantom,
        has_samples=bool(samples),
        upload_bytes=bounds.upload_bytes,
    )
    model.warm_up()
    return Service(model, told, samples, bounds)


def _samples(run_dir: str, model: Any, data_set: Manifest, boxes: str | None) -> Samples:
    from engine.serving import card
    from engine.serving.samples import Samples

    if card.judgement(run_dir, model.predictor.sha256) is None:
        _say(f"note: {run_dir}: not judged on the test split that is shown; `engine evaluate` judges it")
    manifest.check_files(data_set)
    samples = Samples(data_set, boxes)
    if samples.image_shape != model.picture_shape:
        raise RunError(
            f"{data_set.location}: pictures of {samples.image_shape}; the model takes {model.picture_shape}: "
            "name the data set that it was trained on with --data"
        )
    return samples


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
