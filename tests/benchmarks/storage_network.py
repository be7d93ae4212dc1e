"""A network of two machines on one: a server's namespace at the end of a link whose round trips take longer.

The benchmark moves into a network namespace of its own, so nothing of the machine's network is touched, and
holds a second one for the server. A pair of virtual Ethernet devices joins them. To add latency, what the
client sends (requests and acknowledgements) goes through `storage_delay`, while what the server sends comes
straight: each round trip takes the delay longer, TCP's own start included, and no byte of data passes Python.
Needs root, or a kernel that grants user namespaces; and /dev/net/tun. Linux only.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from records.errors import CxrError, UsageError

DELAYED = "delayed"
CLIENT, SERVER = "10.203.0.1", "10.203.0.2"
_INSIDE = "CXR_BENCHMARK_NAMESPACE"
# Acknowledgements that wait for Python's turn; the default of 500 would lose some.
_QUEUE_PACKETS = "10000"
# Of the bucket that limits the rate: longer than the time between two looks at it.
_BURST_S = 0.005
_QUEUE_BYTES = 1 << 26
_RTT_SAMPLES = 9
# A process that ends when this one does, however that may be.
WITH_US = ("setpriv", "--pdeathsig", "KILL")


def move_into_own_namespace() -> None:
    """Start this program again in a network namespace of its own, unless it is in one.

    Raises:
        UsageError: the system lacks a tool.
    """
    for tool in ("unshare", "nsenter", "setpriv", "ip"):
        if shutil.which(tool) is None:
            raise UsageError(f"no `{tool}`; it comes with util-linux and iproute2")
    if os.environ.get(_INSIDE) == str(os.getpid()):
        return
    # `unshare` becomes the program, so the process stays the same one.
    os.environ[_INSIDE] = str(os.getpid())
    flags = ["--net"] if os.geteuid() == 0 else ["--net", "--map-root-user"]
    os.execvp("unshare", ["unshare", *flags, sys.executable, *sys.argv])


class Link:
    """The server's namespace and the way there; a context manager that ends both."""

    def __init__(self, cores: Sequence[int]) -> None:
        """Make the namespace and the devices.

        Args:
            cores: that carry delayed packets.

        Raises:
            CxrError: the system refuses.
        """
        self._cores = ",".join(map(str, cores))
        # The namespace lives as long as a process in it does.
        self._holder = subprocess.Popen([*WITH_US, "unshare", "--net", "sleep", "infinity"])
        self._delayer: subprocess.Popen[str] | None = None
        try:
            self._wait_for_namespace()
            self._join()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Link:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End what carries packets and the namespace."""
        self.delay(0)
        self._holder.kill()
        self._holder.wait()

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs another one in the server's namespace."""
        return ["nsenter", f"--net=/proc/{self._holder.pid}/ns/net", *command]

    def limit(self, gbit_per_s: float) -> None:
        """Let no more come from the server in a second from now on.

        Raises:
            CxrError: the system refuses.
        """
        burst_bytes = int(gbit_per_s * 1e9 / 8 * _BURST_S)
        bucket = ["rate", f"{gbit_per_s:g}gbit", "burst", f"{burst_bytes}b", "limit", f"{_QUEUE_BYTES}b"]
        _run(self.inside(["tc", "qdisc", "replace", "dev", "server", "root", "tbf", *bucket]))

    def delay(self, added_ms: float) -> None:
        """Let each round trip take so much longer from now on; connections that stand go on.

        Raises:
            CxrError: the system has no TUN devices.
        """
        if self._delayer:
            # Its devices, and the route through them, go with it.
            self._delayer.kill()
            self._delayer.wait()
            self._delayer = None
        if not added_ms:
            return
        program = [sys.executable, str(Path(__file__).with_name("storage_delay.py"))]
        self._delayer = subprocess.Popen(
            [*WITH_US, "taskset", "-c", self._cores, *program, str(self._holder.pid), str(added_ms)],
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._delayer.stdout is None or self._delayer.stdout.readline() != "ready\n":
            raise CxrError("/dev/net/tun can't be used; latency is added through it: load the module `tun`")
        for prefix in ([], self.inside([])):
            _run([*prefix, "ip", "link", "set", DELAYED, "txqueuelen", _QUEUE_PACKETS, "up"])
        _run(["ip", "route", "replace", f"{SERVER}/32", "dev", DELAYED, "src", CLIENT])

    def round_trip_ms(self, port: int) -> float:
        """Return the median time that a connection to a port of the server takes: one round trip.

        Raises:
            CxrError: what delays packets has ended, so there is no latency any more.
        """
        if self._delayer and self._delayer.poll() is not None:
            raise CxrError(
                f"storage_delay.py ended with exit code {self._delayer.returncode}; see its error above"
            )
        taken = []
        for _ in range(_RTT_SAMPLES):
            start = time.perf_counter()
            socket.create_connection((SERVER, port), timeout=10).close()
            taken.append(1000 * (time.perf_counter() - start))
        return sorted(taken)[_RTT_SAMPLES // 2]

    def _wait_for_namespace(self) -> None:
        own = Path("/proc/self/ns/net").readlink()
        deadline = time.monotonic() + 10
        while Path(f"/proc/{self._holder.pid}/ns/net").readlink() == own:
            if self._holder.poll() is not None or time.monotonic() > deadline:
                raise CxrError("the kernel grants no second network namespace; run as root")
            time.sleep(0.01)

    def _join(self) -> None:
        _run(["ip", "link", "set", "lo", "up"])
        _run(self.inside(["ip", "link", "set", "lo", "up"]))
        _run(["ip", "link", "add", "client", "type", "veth", "peer", "name", "server"])
        _run(["ip", "link", "set", "server", "netns", str(self._holder.pid)])
        for prefix, address, device in (([], CLIENT, "client"), (self.inside([]), SERVER, "server")):
            _run([*prefix, "ip", "address", "add", f"{address}/24", "dev", device])
            _run([*prefix, "ip", "link", "set", device, "up"])
            # Packets go one way and come another; and no run learns from the one before it.
            for setting in ("conf/all/rp_filter=0", "conf/default/rp_filter=0", "tcp_no_metrics_save=1"):
                name, value = setting.split("=")
                _run([*prefix, "sh", "-c", f"echo {value} > /proc/sys/net/ipv4/{name}"])


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).strip() or f"exit code {done.returncode}"
        raise CxrError(f"`{' '.join(command)}` failed: {said}; run as root, or allow user namespaces")
