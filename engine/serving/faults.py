"""What goes wrong with a request, as its status and one clear line that gives nothing away."""

from __future__ import annotations

RETRY_AFTER_S = "1"


class RequestError(Exception):
    """A request can't be answered as asked.

    Attributes:
        status: of the answer.
        line: what the client is told; holds no path, and nothing of an upload's content.
    """

    def __init__(self, status: int, line: str) -> None:
        super().__init__(line)
        self.status, self.line = status, line

    @property
    def headers(self) -> dict[str, str]:
        """That belong to the status."""
        return {"Retry-After": RETRY_AFTER_S} if self.status == 503 else {}


class ClientGoneError(Exception):
    """Nobody waits for the answer any more."""


def busy() -> RequestError:
    """Say that all places are taken."""
    return RequestError(503, "the server is busy; try again in a moment")
