"""What the server does with a picture, from its bytes to the answer; HTTP itself is `routes`'.

Pictures are decoded in a few threads and predicted in one; the event loop does neither.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
from starlette.requests import Request

from engine.prediction.output import NOTICE
from engine.serving import png, upload
from engine.serving.answers import Finding, Model, Picture, Prediction, Sample, SamplePrediction
from engine.serving.bounds import Bounds
from engine.serving.faults import RequestError, busy
from engine.serving.figures import Figures
from engine.serving.kept import Kept
from engine.serving.model_thread import ModelThread
from engine.serving.room import Room
from engine.serving.samples import Samples
from engine.serving.served_model import Outcome, ServedModel
from engine.serving.waiting import wait
from records.errors import ImageError

T = TypeVar("T")
_DROP_EVERY_S = 15.0


class Service:
    """All that the routes share.

    Args:
        model: that predicts; warmed up.
        card: what `/api/model` says.
        samples: of the data set, if one was named.
        bounds: of everything.
    """

    def __init__(
        self, model: ServedModel, card: Model, samples: Samples | None = None, bounds: Bounds | None = None
    ) -> None:
        self.model, self.card, self.samples = model, card, samples
        self.bounds = bounds or Bounds()
        self.figures = Figures()
        self.thread: ModelThread[Outcome] = ModelThread(
            model.predict,
            batch=self.bounds.batch,
            wait_s=self.bounds.wait_s,
            coming=lambda: self._coming,
            watch=self.figures.computed,
        )
        self._coming = 0
        self._decoders = ThreadPoolExecutor(self.bounds.decoders, thread_name_prefix="decode")
        self._places, self._map_places = Room(self.bounds.predictions), Room(self.bounds.maps)
        self._upload_bytes = Room(self.bounds.uploads_bytes)
        self._pictures: Kept[np.ndarray] = Kept(self.bounds.kept, self.bounds.kept_s)
        self._maps: Kept[bytes] = Kept(self.bounds.kept_maps, self.bounds.kept_s)
        self._watch()

    async def run(self, until: asyncio.Event) -> None:
        """Work until told to stop, and let go of pictures that had their time meanwhile."""
        self.thread.start()
        try:
            while not until.is_set():
                for kept in (self._pictures, self._maps):
                    kept.drop_old()
                try:
                    await asyncio.wait_for(until.wait(), _DROP_EVERY_S)
                except asyncio.TimeoutError:
                    continue
        finally:
            self._decoders.shutdown(wait=False, cancel_futures=True)
            await asyncio.to_thread(self.thread.close)

    async def predict_upload(self, request: Request) -> Prediction:
        """Predict the file that a form holds.

        Raises:
            RequestError: it can't be.
            ClientGoneError: nobody waits for it any more.
        """
        held = upload.declared_bytes(request.headers, self.bounds.upload_bytes)
        with self._places.taken():
            self._upload_bytes.take(held)
            picture = await self._decoded(request, held)
            findings = await self._predicted(request, picture)
        token = secrets.token_urlsafe(16)
        self._pictures.put(token, picture)
        return Prediction(**self._answer(token, findings), truth=None, boxes=[])

    async def predict_sample(self, request: Request, sample: Sample, samples: Samples) -> SamplePrediction:
        """Predict a sample, beside the truth; raises as `predict_upload` does."""
        with self._places.taken():
            with self._on_its_way():
                picture = await self._in_decoders(request, lambda: samples.read(sample.id))
            findings = await self._predicted(request, picture)
        return SamplePrediction(
            **self._answer(sample.id, findings),
            truth=samples.truth(sample.id),
            boxes=samples.boxes(sample.id),
            view=sample.view,
            sex=sample.sex,
        )

    async def sample_png(self, request: Request, sample: Sample, samples: Samples) -> bytes:
        """Return a sample's stored picture."""
        with self._places.taken():
            return await self._in_decoders(request, lambda: png.of_picture(samples.read(sample.id)))

    async def upload_png(self, request: Request, token: str) -> bytes:
        """Return an uploaded picture as the model sees it."""
        picture = self._uploaded(token)
        with self._places.taken():
            return await self._in_decoders(request, lambda: png.of_picture(picture))

    async def heat_map(
        self, request: Request, finding: str, token: str | None, sample: Sample | None
    ) -> bytes:
        """Return the PNG of where the models look for a finding, in an upload or in a sample."""
        if not self.model.has_heatmaps:
            raise RequestError(404, "this model has no heat maps")
        uploaded = self._uploaded(token) if token is not None else None
        key = (token, sample.id if sample else None, finding)
        found = self._maps.get(key)
        if found is None:
            with self._map_places.taken():
                picture = uploaded if uploaded is not None else await self._sample_picture(request, sample)
                job = self.thread.call(lambda: png.of_heat_map(self.model.heat_map(picture, finding)))
                made: bytes = await wait(request, job, self.bounds.answer_s, busy())
            self._maps.put(key, made)
            return made
        return found

    async def _sample_picture(self, request: Request, sample: Sample | None) -> np.ndarray:
        samples = self.samples
        if samples is None or sample is None:
            raise RequestError(422, "name a picture by its `id`, or by its `sample`")
        return await self._in_decoders(request, lambda: samples.read(sample.id))

    async def _decoded(self, request: Request, held: int) -> np.ndarray:
        """Read and decode an upload; gives back the room for its bytes when nobody holds them any more."""
        try:
            data = await self._body(request)
            work = self._decoders.submit(self.model.decode, data)
        except BaseException:
            self._upload_bytes.give_back(held)
            raise
        del data
        work.add_done_callback(lambda _: self._upload_bytes.give_back(held))
        try:
            with self._on_its_way():
                return await wait(request, work, self.bounds.decode_s, busy())
        except ImageError as error:
            raise RequestError(422, str(error)) from error

    async def _body(self, request: Request) -> bytes:
        try:
            return await asyncio.wait_for(
                upload.read_file(request.headers, request.stream(), self.bounds.upload_bytes),
                self.bounds.upload_s,
            )
        except asyncio.TimeoutError:
            raise RequestError(
                408, f"the upload took longer than {self.bounds.upload_s:.0f} seconds"
            ) from None

    @contextmanager
    def _on_its_way(self) -> Iterator[None]:
        """Have the models wait a moment for a picture that is being decoded."""
        self._coming += 1
        try:
            yield
        finally:
            self._coming -= 1

    async def _in_decoders(self, request: Request, job: Callable[[], T]) -> T:
        work = self._decoders.submit(job)
        return await wait(request, work, self.bounds.decode_s, busy())

    async def _predicted(self, request: Request, picture: np.ndarray) -> list[Finding]:
        work = self.thread.predict(picture)
        outcome = await wait(request, work, self.bounds.answer_s, busy())
        return self.model.findings(outcome)

    def _uploaded(self, token: str | None) -> np.ndarray:
        picture = self._pictures.get(token)
        if picture is None:
            raise RequestError(404, "no picture of that id, or not any more; send it again")
        return picture

    def _answer(self, name: str, findings: list[Finding]) -> dict[str, Any]:
        picture = Picture(side_px=self.model.predictor.side_px)
        return {"id": name, "picture": picture, "findings": findings, "notice": NOTICE}

    def _watch(self) -> None:
        self.figures.watch(
            "cxr_queue_pictures", "Pictures that no batch holds yet.", lambda: self.thread.waiting
        )
        self.figures.watch("cxr_places_used", "Predictions in work.", lambda: self._places.used)
        self.figures.watch("cxr_map_places_used", "Heat maps in work.", lambda: self._map_places.used)
        self.figures.watch(
            "cxr_upload_bytes_held", "Bytes of uploads in memory.", lambda: self._upload_bytes.used
        )
        self.figures.watch("cxr_pictures_kept", "Kept for heat maps.", lambda: len(self._pictures))
