"""The API's routes: by which address and values each thing is asked for, and what OpenAPI says of it."""

from __future__ import annotations

import random
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response

from engine.serving import figures, upload
from engine.serving.answers import Fault, Health, Model, Prediction, Sample, SampleList, SamplePrediction
from engine.serving.faults import RequestError
from engine.serving.samples import Samples
from engine.serving.service import Service
from records.labels import FINDINGS, NO_FINDING

_MOST_SAMPLES = 200
_FAULTS = {
    400: "the request is damaged, or meant for another host",
    403: "sent by another site's page",
    404: "there is none",
    408: "the upload took too long",
    413: "the file is too large",
    422: "not what it should be",
    500: "a fault of the server's",
    503: "busy; Retry-After says when to try again",
}
_FORM = {
    "type": "object",
    "required": [upload.FIELD],
    "additionalProperties": False,
    "properties": {
        upload.FIELD: {
            "type": "string",
            "format": "binary",
            "description": "PNG, JPEG or DICOM, as its content says",
        }
    },
}
_UPLOAD = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _FORM}}}}
_WHICH = [*FINDINGS, NO_FINDING, ""]

# Of the samples: those with a finding, those without any, or all.
Which = Annotated[str, Query(description="empty: all", json_schema_extra={"enum": _WHICH})]
Named = Annotated[str, Query(json_schema_extra={"enum": list(FINDINGS)})]


class Png(Response):
    """A picture."""

    media_type = "image/png"


class Text(Response):
    """Prometheus's own format."""

    media_type = figures.CONTENT_TYPE


def router(service: Service) -> APIRouter:
    """Build the routes of a service."""
    routes = APIRouter()
    _add_state(routes, service)
    _add_uploads(routes, service)
    if service.samples:
        _add_samples(routes, service, service.samples)
    else:
        _add_no_samples(routes)
    _add_heat_maps(routes, service)
    return routes


def _faults(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Describe the faults of a route; two are every route's. JSON, whatever its answers are."""
    content = {"application/json": {"schema": Fault.model_json_schema()}}
    return {
        status: {"description": _FAULTS[status], "content": content}
        for status in sorted({400, 500, *statuses})
    }


def _add_state(routes: APIRouter, service: Service) -> None:
    @routes.get("/healthz", responses=_faults(503))
    async def healthz() -> Health:
        """Tell whether requests will be answered."""
        if not service.thread.is_alive:
            raise RequestError(503, "the model is not running")
        return Health(status="ok")

    @routes.get("/metrics", response_class=Text, responses=_faults())
    async def metrics() -> Text:
        """Tell counts and times to Prometheus."""
        return Text(service.figures.told())

    @routes.get("/api/model", responses=_faults())
    async def model() -> Model:
        """Tell what predicts here, and how good it was where it was judged."""
        return service.card


def _add_uploads(routes: APIRouter, service: Service) -> None:
    @routes.post("/api/predict", openapi_extra=_UPLOAD, responses=_faults(403, 408, 413, 422, 503))
    async def predict(request: Request) -> Prediction:
        """Predict one image file; it is kept for some minutes for its heat maps, in memory alone."""
        return await service.predict_upload(request)

    @routes.get("/api/pictures/{token}.png", response_class=Png, responses=_faults(404, 422, 503))
    async def picture(request: Request, token: str) -> Png:
        """Show an image that was sent, as the model sees it."""
        return Png(await service.upload_png(request, token))


def _add_samples(routes: APIRouter, service: Service, samples: Samples) -> None:
    @routes.get("/api/samples", responses=_faults(404, 422))
    async def listed(
        finding: Which = "",
        query: Annotated[str, Query(description="part of an image's id", max_length=200)] = "",
        offset: Annotated[int, Query(ge=0, le=10**9)] = 0,
        limit: Annotated[int, Query(ge=1, le=_MOST_SAMPLES)] = 50,
    ) -> SampleList:
        """List images of the test split."""
        found = samples.find(_known(finding, _WHICH), query)
        return SampleList(total=len(found), samples=found[offset : offset + limit])

    @routes.get("/api/samples/random", responses=_faults(404, 422))
    async def any_of(finding: Which = "") -> Sample:
        """Name an image of the test split by chance."""
        found = samples.find(_known(finding, _WHICH))
        if not found:
            raise RequestError(404, "no image of the test split has this finding")
        return random.choice(found)

    @routes.get("/api/samples/{image_id}", responses=_faults(404, 422, 503))
    async def sample(request: Request, image_id: str) -> SamplePrediction:
        """Predict an image of the test split, beside what the data set says of it."""
        return await service.predict_sample(request, _sample(samples, image_id), samples)

    @routes.get("/api/samples/{image_id}/picture.png", response_class=Png, responses=_faults(404, 422, 503))
    async def sample_picture(request: Request, image_id: str) -> Png:
        """Show an image of the test split as it is stored."""
        return Png(await service.sample_png(request, _sample(samples, image_id), samples))


def _add_no_samples(routes: APIRouter) -> None:
    @routes.get("/api/samples", responses=_faults(404))
    @routes.get("/api/samples/{rest:path}", responses=_faults(404), include_in_schema=False)
    async def listed() -> SampleList:
        """Say that there are none."""
        raise RequestError(404, "no samples here: the server was started without --data")


def _add_heat_maps(routes: APIRouter, service: Service) -> None:
    @routes.get("/api/heatmap", response_class=Png, responses=_faults(404, 422, 503))
    async def heat_map(
        request: Request,
        finding: Named,
        id: Annotated[str | None, Query(description="of an image that was sent")] = None,
        sample: Annotated[str | None, Query(description="id of an image of the test split")] = None,
    ) -> Png:
        """Show where the model looks for a finding, as a layer over the picture."""
        _known(finding, FINDINGS)
        if (id is None) == (sample is None):
            raise RequestError(422, "name a picture by its `id`, or by its `sample`")
        if sample is None:
            return Png(await service.heat_map(request, finding, id, None))
        if service.samples is None:
            raise RequestError(404, "no samples here: the server was started without --data")
        return Png(await service.heat_map(request, finding, None, _sample(service.samples, sample)))


def _known(finding: str, names: Any) -> str:
    if finding not in names:
        raise RequestError(422, f"unknown finding; expected one of {', '.join(filter(None, names))}")
    return finding


def _sample(samples: Samples, image_id: str) -> Sample:
    found = samples.get(image_id)
    if found is None:
        raise RequestError(404, "no image of that id in the test split")
    return found
