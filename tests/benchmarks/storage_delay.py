"""Passes packets from one network namespace to another, each a fixed time after it came.

    python storage_delay.py PID MILLISECONDS

Makes a TUN device of the name `storage_network.DELAYED` in this process's namespace and one in that of
process PID, says `ready`, and carries what is sent into the first out of the second until it is killed; the
devices go with it. It does what `tc netem` does, which many kernels are built without. A packet is late by
what this process has to wait for its core. Linux only.
"""

from __future__ import annotations

import collections
import ctypes
import fcntl
import os
import select
import struct
import sys
import time

from storage_network import DELAYED

_SET_TUN, _TUN, _NO_HEADER = 0x400454CA, 0x0001, 0x1000
_MOST_BYTES = 1 << 16


def open_device() -> int:
    """Make the device in the namespace of this process; return its descriptor, which doesn't block."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, _SET_TUN, struct.pack("16sH", DELAYED.encode(), _TUN | _NO_HEADER))
    return device


def enter_namespace_of(pid: int) -> None:
    """Put this process into the network namespace of another one."""
    with open(f"/proc/{pid}/ns/net") as namespace:  # noqa: PTH123 - a descriptor is what is wanted
        if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), 0):
            raise OSError(ctypes.get_errno(), f"can't enter the network namespace of process {pid}")


def carry(source: int, target: int, delay_s: float) -> None:
    """Write to the target what comes from the source, in its order and so much later; never return."""
    waiting: collections.deque[tuple[float, bytes]] = collections.deque()
    while True:
        left_s = max(0.0, waiting[0][0] - time.monotonic()) if waiting else None
        came, _, _ = select.select([source], [], [], left_s)
        now = time.monotonic()
        if came:
            for packet in read_all(source):
                waiting.append((now + delay_s, packet))
        while waiting and waiting[0][0] <= now:
            os.write(target, waiting.popleft()[1])


def read_all(source: int) -> list[bytes]:
    """Return the packets that are there."""
    packets = []
    while True:
        try:
            packets.append(os.read(source, _MOST_BYTES))
        except BlockingIOError:
            return packets


def main() -> None:
    """Make both devices and carry packets."""
    pid, delay_ms = int(sys.argv[1]), float(sys.argv[2])
    source = open_device()
    enter_namespace_of(pid)
    target = open_device()
    print("ready", flush=True)
    carry(source, target, delay_ms / 1000)


if __name__ == "__main__":
    main()
