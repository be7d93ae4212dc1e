"""What the server takes on: sizes, numbers and times, so that no client can starve the others."""

from __future__ import annotations

from dataclasses import dataclass

MIB = 1 << 20


@dataclass(frozen=True)
class Bounds:
    """The server's bounds.

    Attributes:
        upload_bytes: of one request's body.
        uploads_bytes: of all bodies that are held at one time.
        predictions: requests for one that are answered at one time; one more gets 503.
        maps: likewise for heat maps, which take longer.
        batch: pictures that the model takes at once, at most.
        wait_s: that the first picture of a batch waits for others, at most.
        decoders: threads that decode.
        decode_s: for one picture.
        head_s: until a request's head must be there, of a connection that has nothing else to do.
        upload_s: until a request's body must be there.
        answer_s: until the model must have answered.
        stop_s: for requests in flight once the server was told to stop.
        connections: that are open at one time.
        kept: pictures, kept for their heat maps.
        kept_s: for how long.
        kept_maps: heat maps, kept as long.
    """

    upload_bytes: int = 32 * MIB
    uploads_bytes: int = 256 * MIB
    predictions: int = 64
    maps: int = 16
    batch: int = 16
    wait_s: float = 0.005
    decoders: int = 2
    decode_s: float = 20.0
    head_s: float = 20.0
    upload_s: float = 30.0
    answer_s: float = 60.0
    stop_s: int = 30
    connections: int = 512
    kept: int = 64
    kept_s: float = 600.0
    kept_maps: int = 256
