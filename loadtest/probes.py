"""What is measured of a server beside its speed: system calls, memory, how long a modest client waits."""

from __future__ import annotations

import pathlib
import re
import signal
import statistics
import subprocess
import time

import measure


def session(leader: int) -> list[int]:
    """The processes of a session."""
    found = []
    for stat in pathlib.Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(") ")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[3]) == leader:
            found.append(int(stat.parent.name))
    return sorted(found)


def syscalls(process: subprocess.Popen, url: str, seconds: float, directory: pathlib.Path) -> dict:
    """All calls of all the server's processes while 64 connections ask; the five commonest by name."""
    summary = directory / "strace"
    command = ["strace", "-c", "-f", "-o", str(summary)]
    for pid in session(process.pid):
        command += ["-p", str(pid)]
    watching = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    try:
        attached = 0
        while attached < (len(command) - 5) // 2:
            line = watching.stderr.readline()
            if not line:
                raise measure.ServerFailed("strace ended before it was attached")
            attached += "attached" in line
        text = measure.run(["wrk", "-t1", "-c64", f"-d{seconds:g}s", url], None, seconds + 60)
    finally:
        watching.send_signal(signal.SIGINT)
        watching.communicate(timeout=60)
    requests = int(re.search(r"(\d+) requests in", text)[1])
    counts = {}
    for line in summary.read_text().splitlines():
        # % time, seconds, usecs/call, calls, errors (if any), name.
        fields = line.split()
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total":
            counts[fields[-1]] = counts.get(fields[-1], 0) + int(fields[3])
    commonest = sorted(counts.items(), key=lambda pair: -pair[1])[:5]
    return {
        "calls": sum(counts.values()) / requests,
        "kinds": ", ".join(f"{name} {count / requests:.2f}" for name, count in commonest),
    }


def memory(process: subprocess.Popen, url: str, seconds: float, directory: pathlib.Path) -> dict:
    """Proportional set sizes, in MiB."""
    measure.run(["ab", "-q", "-k", "-c", "9", "-n", "90", url], None, 60)
    time.sleep(1)
    sizes = {}
    for pid in session(process.pid):
        rollup = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        sizes[pid] = int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.MULTILINE)[1]) / 1024
    others = [size for pid, size in sizes.items() if pid != process.pid]
    return {
        "processes": len(sizes),
        "master": sizes[process.pid],
        "worker": statistics.median(others) if others else 0.0,
        "sum": sum(sizes.values()),
    }


def fairness(process: subprocess.Popen, url: str, seconds: float, directory: pathlib.Path) -> dict:
    """Eight clients, each a process with one connection and one request at a time, beside 63 connections of another."""

    def start(connections: int, length: float) -> subprocess.Popen:
        return subprocess.Popen(
            ["wrk", "-t1", f"-c{connections}", f"-d{length:g}s", "--latency", "--timeout", "10s", url],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    busy = start(63, seconds + 1)
    time.sleep(0.5)
    modest = [start(1, seconds) for _ in range(8)]
    texts = [client.communicate(timeout=seconds + 60)[0] for client in modest]
    busy.communicate(timeout=seconds + 60)
    answers, waits = [], []
    for text in texts:
        answers.append(int(re.search(r"(\d+) requests in", text)[1]))
        found = re.search(r"Latency\s+\S+\s+\S+\s+(\S+)", text)
        # One that got no answer has waited for all of it.
        waits.append(measure.milliseconds(found[1]) if answers[-1] and found else seconds * 1000)
    return {
        "least": min(answers),
        "most": max(answers),
        "median": statistics.median(waits),
        "longest": max(waits),
    }
