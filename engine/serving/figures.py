"""What `/metrics` tells, in a registry of its own; nothing in it says who asked, or for what picture."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

CONTENT_TYPE = CONTENT_TYPE_PLAIN_0_0_4
_METHODS = ("GET", "HEAD", "POST")
_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_PICTURES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Figures:
    """Counts and times."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "cxr_requests", "Answers given.", ("route", "method", "status"), registry=self._registry
        )
        self._seconds = Histogram(
            "cxr_request_seconds",
            "From a request's head to the end of its answer.",
            ("route",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._batches = Histogram(
            "cxr_batch_pictures",
            "Pictures that the models took at once.",
            buckets=_PICTURES,
            registry=self._registry,
        )
        self._model_seconds = Histogram(
            "cxr_model_seconds",
            "Of one batch, or of one heat map.",
            ("kind",),
            buckets=_SECONDS,
            registry=self._registry,
        )

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count an answer; `route` is a template, so that there are few."""
        method = method if method in _METHODS else "other"
        self._requests.labels(route, method, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def computed(self, kind: str, pictures: int, seconds: float) -> None:
        """Count a turn of the model thread."""
        if kind == "predict":
            self._batches.observe(pictures)
        self._model_seconds.labels(kind).observe(seconds)

    def watch(self, name: str, text: str, value: Callable[[], float]) -> None:
        """Add a figure that is asked for whenever it is told."""
        Gauge(name, text, registry=self._registry).set_function(value)

    def told(self) -> bytes:
        """Write all of it in Prometheus's text format."""
        return generate_latest(self._registry)
