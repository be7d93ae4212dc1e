"""How many pictures a second the server reads, and how long a client waits: batched beside one at a time.

    python tests/benchmarks/serving_load.py --run-dir RUN --images FOLDER --cores 0,1 --client-cores 2,3

Protocol. Two servers of one run, one with its usual batches and one with batches of 1, are processes on
`--cores`; this process, on `--client-cores`, plays the clients. A client is a thread with one
connection that sends a picture, waits for the answer and sends the next (closed loop). The pictures are the
first 64 files of `--images`, put into forms before the clock starts. In each round every number of clients
meets both servers for `--seconds`, one right after the other and first in turn, while the other server idles.
The round before the first warms up and doesn't count. Told are medians over the rounds with lowest and
highest; p50 and p95 are of all of a window's requests; a ratio is of a round's two throughputs; CPU seconds
are the server process's own, all of its threads.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import measured

BOUNDARY = "picture"
PICTURES = 64
ONE_AT_A_TIME, BATCHED = "one at a time", "batched"
TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class Server(NamedTuple):
    """A server process."""

    name: str
    port: int
    pid: int


class Window(NamedTuple):
    """What one server did for some clients during one window."""

    throughput: float
    p50_ms: float
    p95_ms: float
    cpu_ms: float


def main() -> int:
    """Run the benchmark, or one of its servers; return the exit code."""
    given = _parse()
    if given.serve:
        return _serve(given.run_dir, given.serve)
    cores = [int(core) for core in given.cores.split(",")]
    machine = measured.machine()
    os.sched_setaffinity(0, [int(core) for core in given.client_cores.split(",")])
    forms = [_form(path) for path in sorted(Path(given.images).iterdir())[:PICTURES]]
    with ExitStack() as stack:
        servers = [
            stack.enter_context(_started(name, given.run_dir, batch, cores))
            for name, batch in ((ONE_AT_A_TIME, 1), (BATCHED, given.batch))
        ]
        windows = _rounds(servers, given, forms)
    _show(windows, given, machine, cores)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run-dir", required=True)
    parser.add_argument("--images", default=".")
    parser.add_argument("--cores", default="0,1")
    parser.add_argument("--client-cores", default="2,3")
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", type=int, metavar="BATCH", help="be a server with such batches")
    return parser.parse_args()


def _serve(run_dir: str, batch: int) -> int:
    from engine.serving import serve
    from engine.serving.bounds import Bounds

    return serve.run(run_dir, port=0, bounds=Bounds(batch=batch))


@contextmanager
def _started(name: str, run_dir: str, batch: int, cores: list[int]) -> Iterator[Server]:
    command = [sys.executable, __file__, "--run-dir", run_dir, "--serve", str(batch)]
    pinned = ["taskset", "-c", ",".join(map(str, cores))]
    with subprocess.Popen([*pinned, *command], stdout=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline() if process.stdout else ""
        if not line:
            raise SystemExit("the server didn't start")
        try:
            yield Server(name, int(line.split()[0].rstrip("/").rpartition(":")[2]), process.pid)
        finally:
            process.terminate()


def _form(path: Path) -> bytes:
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="file"; filename="picture"\r\n\r\n'
    return head.encode() + path.read_bytes() + f"\r\n--{BOUNDARY}--\r\n".encode()


def _rounds(servers: list[Server], given: argparse.Namespace, forms: list[bytes]) -> list[dict]:
    rounds = []
    for number in range(given.rounds + 1):
        turn = servers if number % 2 else servers[::-1]
        found = {
            (clients, server.name): _load(server, clients, given.seconds, forms)
            for clients in map(int, given.clients.split(","))
            for server in turn
        }
        rounds.append(found)
        print(f"round {number} of {given.rounds}", file=sys.stderr)
    return rounds[1:]


def _load(server: Server, clients: int, seconds: float, forms: list[bytes]) -> Window:
    waits_s: list[float] = []
    began_s, cpu_s = time.perf_counter(), _cpu_s(server.pid)
    until_s = began_s + seconds

    def ask(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port)
        place = first
        while time.perf_counter() < until_s:
            sent_s = time.perf_counter()
            headers = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}
            connection.request("POST", "/api/predict", forms[place % len(forms)], headers)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise SystemExit(f"{answer.status}: {body[:200]!r}")
            waits_s.append(time.perf_counter() - sent_s)
            place += clients
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took_s, used_s = time.perf_counter() - began_s, _cpu_s(server.pid) - cpu_s
    cuts = statistics.quantiles(waits_s, n=20)
    return Window(
        len(waits_s) / took_s,
        1000 * statistics.median(waits_s),
        1000 * cuts[-1],
        1000 * used_s / len(waits_s),
    )


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS_PER_S


def _show(rounds: list[dict], given: argparse.Namespace, machine: str, cores: list[int]) -> None:
    table = []
    for clients in map(int, given.clients.split(",")):
        for name in (ONE_AT_A_TIME, BATCHED):
            windows = [found[clients, name] for found in rounds]
            table.append({"clients": clients, "server": name} | _spreads(windows))
        ratios = [
            found[clients, BATCHED].throughput / found[clients, ONE_AT_A_TIME].throughput for found in rounds
        ]
        table[-1]["ratio"] = _spread(ratios)
    if given.json:
        print(json.dumps({"cores": cores, "rounds": len(rounds), "rows": table}, indent=1))
        return
    print(
        f"{machine}; commit {measured.commit(Path(__file__).parents[2])}; server on {len(cores)} cores; "
        f"{len(rounds)} rounds of {given.seconds:g} s"
    )
    names = f"{'pictures/s':>22}  {'p50 ms':>7}  {'p95 ms':>7}  {'CPU ms/picture':>14}"
    print(f"{'clients':>7}  {'server':13}  {names}")
    for row in table:
        rate = "{:.1f} [{:.1f}, {:.1f}]".format(*row["throughput"])
        ratio = "  x {:.2f} [{:.2f}, {:.2f}]".format(*row["ratio"]) if "ratio" in row else ""
        waits = f"{row['p50_ms'][0]:>7.0f}  {row['p95_ms'][0]:>7.0f}  {row['cpu_ms'][0]:>14.1f}"
        print(f"{row['clients']:>7}  {row['server']:13}  {rate:>22}  {waits}{ratio}")


def _spreads(windows: list[Window]) -> dict[str, tuple[float, float, float]]:
    return {name: _spread([getattr(window, name) for window in windows]) for name in Window._fields}


def _spread(values: list[float]) -> tuple[float, float, float]:
    return statistics.median(values), min(values), max(values)


if __name__ == "__main__":
    sys.exit(main())
