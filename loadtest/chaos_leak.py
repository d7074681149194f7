"""Does anything pile up? Descriptors, processes, files and memory of a server, before and after many operations."""

from __future__ import annotations

import collections
import dataclasses
import os
import pathlib
import re
import time

from chaos_processes import NotSettled, alive, descendants, descriptors, memory, stat, until
from chaos_servers import Phase, Server

# Operations after which another master serves.
NEW_MASTER = {"USR2, TERM to the old", "USR2, QUIT to the old", "USR2, WINCH and QUIT to the old"}

SIGNALS = (
    "HUP", "HUP, app broken", "HUP, configuration broken", "USR2, given up", "USR2, WINCH, taken back", "TTIN", "TTOU", "USR1",
    "TERM of a worker", "kill -9 of a worker",
)  # fmt: skip

# The share of the operations, whether memory is judged (a new master is another process), and how the server is started.
PARTS = (
    (0.5, True, Phase(SIGNALS, ("--daemon",))),
    (0.35, False, Phase((*SIGNALS, *sorted(NEW_MASTER)), ("--daemon",))),
    (0.15, True, Phase(("HUP, rolling", "recycling by requests"), ("--reload-strategy", "rolling", "--max-requests", "300"))),
)  # fmt: skip

# What a master's memory may grow by, KiB: the allocator's pieces, not a piece an operation.
GROWTH = 512


@dataclasses.dataclass
class Census:
    """What there is of a server at rest."""

    descriptors: dict[str, int]
    processes: int
    zombies: int
    files: int
    memory: int

    @classmethod
    def of(cls, server: Server, mine: set[int]) -> Census:
        if server.process:
            server.process.poll()
        # What this process itself has to reap is none of the server's zombies.
        family = [pid for pid in descendants(os.getpid()) if pid not in mine and (alive(pid) or parent(pid) != os.getpid())]
        states = [known[0] for pid in family if (known := stat(pid))]
        return cls(
            # Numbers of sockets and names of files differ; how many there are of a kind must not.
            descriptors=dict(collections.Counter(kind(link) for link in descriptors(server.master))),
            processes=len(states),
            zombies=states.count("Z"),
            files=sum(1 for path in server.directory.rglob("*") if path.is_file()) + shared_memory(),
            memory=memory(server.master),
        )

    def exact(self) -> tuple:
        """All that must be the same again."""
        return self.descriptors, self.processes, self.zombies, self.files

    def told(self) -> str:
        return (
            f"{sum(self.descriptors.values())} descriptors, {self.processes} processes, {self.zombies} zombies, {self.files} files, "
            f"master {self.memory:,} KiB"
        )


def kind(link: str) -> str:
    """`socket:[4711]` is a socket, `/dev/shm/x (deleted)` a file."""
    return re.sub(r":\[\d+\]$", "", link) if not link.startswith("/") or link == "/dev/null" else "file"


def parent(pid: int) -> int:
    """Of one that is gone: we have just reaped it."""
    known = stat(pid)
    return known[1] if known else os.getpid()


def shared_memory() -> int:
    """Files in the tmpfs where servers may leave some."""
    return sum(1 for path in pathlib.Path("/dev/shm").iterdir() if "rgun" in path.name)


def run(server: Server, names: list[str], count: int, mine: set[int]) -> tuple[Census, Census, int]:
    """`count` operations in turn; what there was before and after, and how many were done."""
    known = server.operations()
    names = [name for name in names if name in known]
    # Each once, for what is made at the first use.
    for name in names:
        known[name]()
    until("it is at rest", server.at_rest)
    # The log's readers, what is freed late: a moment's difference is no leak.
    time.sleep(1)
    before = Census.of(server, mine)
    for at in range(count):
        known[names[at % len(names)]]()
        # The log is ours to keep short.
        if at % 100 == 99:
            server.log.text = server.log.text[-200_000:]
    while server.wanted > server.mode.workers:
        known["TTOU"]()
    until("it is at rest", server.at_rest)
    try:
        until("all is as before", lambda: Census.of(server, mine).exact() == before.exact(), 5)
    except NotSettled:
        pass  # What is different is told by whoever compares.
    after = Census.of(server, mine)
    return before, after, count


def verdict(before: Census, after: Census, judge_memory: bool) -> list[str]:
    """What has piled up."""
    wrong = []
    if after.descriptors != before.descriptors:
        wrong.append(f"descriptors of the master: {before.descriptors} before, {after.descriptors} after")
    for name in ("processes", "zombies", "files"):
        if getattr(after, name) != getattr(before, name):
            wrong.append(f"{name}: {getattr(before, name)} before, {getattr(after, name)} after")
    if judge_memory and after.memory > before.memory + GROWTH:
        wrong.append(f"memory of the master: {before.memory:,} KiB before, {after.memory:,} KiB after")
    return wrong
