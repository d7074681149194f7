"""What Linux tells about processes and their connections, from outside."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pathlib
import socket
import struct
import time
from collections.abc import Callable, Iterable

PROC = pathlib.Path("/proc")
PATIENCE = float(os.environ.get("RGUN_TEST_PATIENCE", "1"))

# What a process that has just ended, or a descriptor that has just been closed, raises.
GONE = (FileNotFoundError, ProcessLookupError, PermissionError)


class NotSettled(Exception):
    """What was waited for did not come; the message says what."""


def until(what: str, condition: Callable[[], object], seconds: float = 20) -> None:
    """Polls.

    Raises NotSettled.
    """
    deadline = time.monotonic() + seconds * PATIENCE
    while not condition():
        if time.monotonic() > deadline:
            raise NotSettled(f"not within {seconds * PATIENCE:g} s: {what}")
        time.sleep(0.01)


def adopt_orphans() -> None:
    """Processes below this one whose parent ends become children of this one: old masters' new masters, and what leaks."""
    PR_SET_CHILD_SUBREAPER = 36
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl")


def stat(pid: int) -> tuple[str, int] | None:
    """State and parent (proc(5)), or None."""
    try:
        fields = (PROC / str(pid) / "stat").read_text().rpartition(") ")[2].split()
    except GONE:
        return None
    return fields[0], int(fields[1])


def alive(pid: int | None) -> bool:
    """Whether it runs; a zombie does not, and is reaped if it is ours."""
    if pid is None or not (known := stat(pid)):
        return False
    state, parent = known
    if state in "ZX":
        if parent == os.getpid():
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
        return False
    return True


def children(pid: int) -> list[int]:
    """Its children, in the order of their age."""
    try:
        return [int(child) for child in (PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]
    except GONE:
        return []


def descendants(pid: int) -> list[int]:
    """Its children, theirs, and so on."""
    found = []
    for child in children(pid):
        found += [child, *descendants(child)]
    return found


def descriptors(pid: int) -> list[str]:
    """What its file descriptors are."""
    links = []
    with contextlib.suppress(*GONE):
        for fd in (PROC / str(pid) / "fd").iterdir():
            with contextlib.suppress(*GONE):
                links.append(os.readlink(fd))
    return links


def memory(pid: int) -> int:
    """Its proportional share of memory, KiB."""
    for line in (PROC / str(pid) / "smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise NotSettled(f"no Pss of {pid}")


def clients(pids: Iterable[int], unix: bool) -> set[int]:
    """Whose connections these processes have accepted: ports of clients, or the numbers of their unix sockets."""
    inodes = {
        int(link[8:-1]) for pid in pids for link in descriptors(pid) if link.startswith("socket:[")
    }  # fmt: skip
    if unix:
        return {peer for inode, peer in unix_peers().items() if inode in inodes}
    found = set()
    for line in (PROC / "self" / "net" / "tcp").read_text().splitlines()[1:]:
        fields = line.split()
        # A listening socket's peer is port 0; a connection in the kernel's queue has no inode.
        if int(fields[9]) in inodes and (port := int(fields[2].partition(":")[2], 16)):
            found.add(port)
    return found


def unix_peers() -> dict[int, int]:
    """The number of each unix socket's other end (sock_diag(7), UDIAG_SHOW_PEER)."""
    NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, SHOW_PEER, ATTRIBUTE_PEER = 4, 20, 0x301, 4, 2
    body = struct.pack("=BBHIIIII", socket.AF_UNIX, 0, 0, 0xFFFFFFFF, 0, SHOW_PEER, 0xFFFFFFFF, 0xFFFFFFFF)
    peers: dict[int, int] = {}
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as netlink:
        netlink.send(struct.pack("=IHHII", 16 + len(body), SOCK_DIAG_BY_FAMILY, REQUEST_DUMP, 0, 0) + body)
        while True:
            data = netlink.recv(1 << 17)
            while data:
                length, kind = struct.unpack_from("=IH", data)
                if kind != SOCK_DIAG_BY_FAMILY:
                    return peers
                (inode,) = struct.unpack_from("=I", data, 20)
                at = 32
                while at + 4 <= length:
                    size, attribute = struct.unpack_from("=HH", data, at)
                    if attribute == ATTRIBUTE_PEER:
                        (peers[inode],) = struct.unpack_from("=I", data, at + 4)
                    at += (size + 3) & ~3
                data = data[(length + 3) & ~3 :]
