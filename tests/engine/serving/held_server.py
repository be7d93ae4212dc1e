"""A server whose model waits until a file is gone, so that a signal finds a request in flight."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from engine import backend
from records.errors import CxrError


def main(run_dir: str, data: str, port: str, held: str) -> int:
    """Serve; the model takes its time while the file `held` stands."""
    backend.load()
    from engine.serving import serve
    from engine.serving.served_model import ServedModel

    class Held(ServedModel):
        def predict(self, batch):
            while Path(held).exists():
                time.sleep(0.02)
            return super().predict(batch)

    import engine.serving.served_model

    engine.serving.served_model.ServedModel = Held
    try:
        return serve.run(run_dir, data=data, port=int(port))
    except CxrError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
