"""What is measured: an app, a load or a probe, the servers beside each other, and the goals that are set for ours."""

from __future__ import annotations

import dataclasses
import pathlib
import statistics
from collections.abc import Callable

import measure
import probes

WSGI = ("rgun-async sync", "rgun-async gevent", "peregrine", "bjoern", "granian", "uwsgi", "gunicorn gevent")
ASGI = ("rgun-async asyncio", "rgun-async uvloop", "peregrine asgi", "granian asgi", "uvicorn", "gunicorn asgi")

# A figure's name in a run, its heading, how it is written.
LOAD = (
    ("per_second", "req/s", "{:,.0f}"), ("cpu_us", "CPU us/req", "{:.2f}"), ("p50", "p50 ms", "{:.2f}"),
    ("p99", "p99 ms", "{:.1f}"), ("longest", "max ms", "{:.0f}"), ("failures", "failures", "{:,.0f}"),
)  # fmt: skip

Run = dict[str, float]


@dataclasses.dataclass
class Running:
    """A server that runs, and what is to be done with it."""

    process: object
    url: str
    core: int | None
    seconds: float
    requests: int
    directory: pathlib.Path


@dataclasses.dataclass
class Case:
    """One table of the report."""

    name: str
    title: str
    app: str
    load: Callable[[Running], Run]
    servers: tuple[str, ...]
    workers: int = 2
    # One worker and the load generator on one core separate servers best: none of them ever waits for requests.
    one_core: bool = False
    columns: tuple[tuple[str, str, str], ...] = LOAD
    # The last column compares this figure, round by round, with the first server's.
    compared: str | None = "cpu_us"
    warm: bool = True
    # What the server speaks; by uwsgi there is an nginx before it, which shares the other core with the load generator.
    speaks: str = "http"


def wrk(connections: int, threads: int = 1) -> Callable[[Running], Run]:
    def load(running: Running) -> Run:
        result = measure.wrk(running.process, running.url, running.core, threads, connections, running.seconds)
        return dataclasses.asdict(result)

    return load


def ab(connections: int) -> Callable[[Running], Run]:
    def load(running: Running) -> Run:
        result = measure.ab(running.process, running.url, running.core, connections, running.requests)
        return dataclasses.asdict(result)

    return load


def h2load(connections: int, streams: int) -> Callable[[Running], Run]:
    def load(running: Running) -> Run:
        result = measure.h2load(running.process, running.url, running.core, connections, streams, running.seconds)
        return dataclasses.asdict(result)

    return load


def probe(function: Callable[..., Run]) -> Callable[[Running], Run]:
    def load(running: Running) -> Run:
        return function(running.process, running.url, running.seconds, running.directory)

    return load


def cpu(name: str, title: str, app: str, servers: tuple[str, ...], speaks: str = "http") -> Case:
    title = f"{title}: one worker and `wrk -t1 -c64` on one core"
    return Case(name, title, app, wrk(64), servers, 1, True, speaks=speaks)


def behind(name: str, title: str, app: str, speaks: str) -> Case:
    """By the uwsgi protocol, which uWSGI is made for."""
    title = f"{title}: one worker on a core, nginx and `wrk -t1 -c64` on another"
    return Case(name, title, app, wrk(64), (*ONE_THREAD[:2], "uwsgi", "gunicorn gevent"), 1, True, speaks=speaks)


def http2(name: str, title: str, app: str, servers: tuple[str, ...]) -> Case:
    title = f"{title}: one worker and `h2load -c8 -m16` on one core"
    return Case(
        name, title, app, h2load(8, 16), servers, 1, True, speaks="h2",
        columns=(*LOAD[:2], ("p50", "mean ms", "{:.2f}"), ("longest", "max ms", "{:.0f}"), LOAD[5]),
    )  # fmt: skip


SECURE_ASGI = ("rgun-async asyncio", "rgun-async uvloop", "granian asgi", "uvicorn")
ONE_THREAD = ("rgun-async sync", "rgun-async gevent", "rgun-async asyncio", "rgun-async uvloop")

CASES = [
    cpu("native", "Native hello", "native", ("rgun-async", "nginx")),
    cpu("10 KB", "A file of 10 KB", "10 KB", ("rgun-async", "nginx")),
    cpu("10 MB", "A file of 10 MB", "10 MB", ("rgun-async", "nginx")),
    cpu("wsgi", "Raw WSGI", "wsgi", WSGI),
    cpu("asgi", "Raw ASGI", "asgi", ASGI),
    cpu("flask", "Flask hello", "flask", WSGI),
    cpu("django", "Django hello", "django", WSGI),
    cpu("fastapi", "FastAPI hello", "fastapi", ASGI),
    behind("uwsgi tcp", "Raw WSGI behind nginx, `uwsgi_pass` over TCP", "wsgi", "uwsgi"),
    behind("uwsgi unix", "The same over a unix socket", "wsgi", "uwsgi unix"),
    behind("uwsgi flask", "Flask hello behind nginx, `uwsgi_pass` over a unix socket", "flask", "uwsgi unix"),
    cpu("https", "Native hello by HTTPS", "native", ("rgun-async", "nginx"), "https"),
    cpu(
        "https wsgi", "Raw WSGI by HTTPS", "wsgi",
        ("rgun-async sync", "rgun-async gevent", "granian", "gunicorn gevent", "gunicorn gthread"), "https",
    ),
    cpu("https asgi", "Raw ASGI by HTTPS", "asgi", SECURE_ASGI, "https"),
    http2("h2", "Native hello by HTTP/2", "native", ("rgun-async", "nginx")),
    http2("h2 wsgi", "Raw WSGI by HTTP/2", "wsgi", ("rgun-async sync", "rgun-async gevent", "granian")),
    http2("h2 asgi", "Raw ASGI by HTTP/2", "asgi", ("rgun-async asyncio", "rgun-async uvloop", "granian asgi")),
    Case(
        "flask+redis", "Flask + Redis (`INCR`, `GET`), 4 workers, `ab -c 500`", "flask+redis", ab(500),
        (*WSGI, "rgun-async gthread", "gunicorn gthread", "gunicorn sync"), 4,
    ),
    Case(
        "ab", "Flask hello, a connection for each request: 4 workers, `ab -c 500`", "flask", ab(500),
        (*WSGI, "gunicorn sync"), 4,
    ),
    Case(
        "sleep", "1,000 requests that wait 100 ms, one worker: WSGI", "sleep", wrk(1000),
        ("rgun-async gevent", "rgun-async gthread", "gunicorn gevent", "gunicorn gthread"), 1,
    ),
    Case("sleep asgi", "1,000 requests that wait 100 ms, one worker: ASGI", "sleep asgi", wrk(1000), ASGI, 1),
    Case(
        "fairness", "8 clients with one request at a time beside 63 busy connections, 2 workers", "wsgi",
        probe(probes.fairness), (*WSGI, "gunicorn sync"), 2, compared="longest",
        columns=(
            ("least", "answers, least of the 8", "{:,.0f}"), ("most", "most", "{:,.0f}"),
            ("median", "longest wait ms, median of the 8", "{:.0f}"), ("longest", "worst", "{:.0f}"),
        ),
    ),
    Case(
        "fairness asgi", "The same for ASGI", "asgi", probe(probes.fairness), ASGI, 2, compared="longest",
        columns=(
            ("least", "answers, least of the 8", "{:,.0f}"), ("most", "most", "{:,.0f}"),
            ("median", "longest wait ms, median of the 8", "{:.0f}"), ("longest", "worst", "{:.0f}"),
        ),
    ),
    Case(
        "syscalls", "System calls a request, one worker, 64 connections (`strace -c -f`)", "wsgi",
        probe(probes.syscalls), WSGI, 1, compared="calls",
        columns=(("calls", "calls a request", "{:.2f}"), ("kinds", "of them", "{}")),
    ),
    Case(
        "syscalls asgi", "The same for ASGI", "asgi", probe(probes.syscalls), ASGI, 1, compared="calls",
        columns=(("calls", "calls a request", "{:.2f}"), ("kinds", "of them", "{}")),
    ),
    Case(
        "memory", "Memory (PSS) of the master and 9 workers with Flask, after 90 requests", "flask",
        probe(probes.memory),
        (
            "rgun-async gevent", "rgun-async gevent --preload", "rgun-async sync", "rgun-async sync --preload",
            "gunicorn gevent", "gunicorn gevent --preload", "gunicorn sync", "granian", "uwsgi",
        ),
        9, compared="sum", warm=False,
        columns=(
            ("processes", "processes", "{:.0f}"), ("master", "master MiB", "{:.1f}"),
            ("worker", "worker MiB, median", "{:.1f}"), ("sum", "sum MiB", "{:.1f}"),
        ),
    ),
]  # fmt: skip

Rows = dict[str, list[Run]]


def median(runs: list[Run], figure: str) -> float:
    return statistics.median(run[figure] for run in runs)


def ratios(runs: list[Run], to: list[Run], figure: str) -> float | None:
    """The median of the ratios round by round."""
    pairs = [(run[figure], base[figure]) for run, base in zip(runs, to) if base[figure]]
    return statistics.median(one / base for one, base in pairs) if pairs else None


@dataclasses.dataclass
class Goal:
    """A row of the table of goals."""

    text: str
    case: str
    # What was measured, in words, and whether it is good enough; None where nothing can be said.
    look: Callable[[Rows], tuple[str, bool] | None]


def beside(ours: str, peers: tuple[str, ...], limit: float, figure: str = "cpu_us") -> Callable[[Rows], tuple[str, bool] | None]:
    """Ours at most so many times the best of some peers."""

    def look(rows: Rows) -> tuple[str, bool] | None:
        there = [peer for peer in peers if rows.get(peer)]
        if not rows.get(ours) or not there:
            return None
        best = min(there, key=lambda peer: median(rows[peer], figure))
        ratio = ratios(rows[ours], rows[best], figure)
        if ratio is None:
            return None
        return f"{ours}: {ratio:.2f} x {best}", ratio <= limit

    return look


def at_most(ours: str, figure: str, limit: float, unit: str) -> Callable[[Rows], tuple[str, bool] | None]:
    def look(rows: Rows) -> tuple[str, bool] | None:
        if not rows.get(ours):
            return None
        value = median(rows[ours], figure)
        return f"{ours}: {value:,.2f} {unit}", value <= limit

    return look


def at_least(ours: str, figure: str, limit: float, unit: str) -> Callable[[Rows], tuple[str, bool] | None]:
    def look(rows: Rows) -> tuple[str, bool] | None:
        if not rows.get(ours):
            return None
        value = median(rows[ours], figure)
        return f"{ours}: {value:,.0f} {unit}", value >= limit

    return look


def _goals() -> list[Goal]:
    goals = []
    for ours in ("rgun-async sync", "rgun-async gevent"):
        goals += [
            Goal("raw WSGI: CPU at most 1.1 x peregrine", "wsgi", beside(ours, ("peregrine",), 1.1)),
            Goal("raw WSGI: at most 1/2 of granian", "wsgi", beside(ours, ("granian",), 0.5)),
            Goal("raw WSGI: at most 1/15 of gunicorn gevent", "wsgi", beside(ours, ("gunicorn gevent",), 1 / 15)),
            Goal("Flask: at most the best of peregrine and bjoern", "flask", beside(ours, ("peregrine", "bjoern"), 1.0)),
            Goal("Flask: at most 2/5 of gunicorn gevent", "flask", beside(ours, ("gunicorn gevent",), 0.4)),
            Goal("Django: at most the best of peregrine and bjoern", "django", beside(ours, ("peregrine", "bjoern"), 1.0)),
            Goal("Flask + Redis: CPU below uwsgi's", "flask+redis", beside(ours, ("uwsgi",), 1.0)),
            Goal("Flask + Redis: CPU below granian's", "flask+redis", beside(ours, ("granian",), 1.0)),
            Goal("Flask + Redis: CPU below peregrine's", "flask+redis", beside(ours, ("peregrine",), 1.0)),
            Goal("Flask + Redis: no failure", "flask+redis", at_most(ours, "failures", 0, "failures")),
            Goal("Flask + Redis: longest under 1 s", "flask+redis", at_most(ours, "longest", 1000, "ms")),
            Goal("system calls a request at most 2.1", "syscalls", at_most(ours, "calls", 2.1, "calls")),
            Goal("longest wait beside 63 busy connections 30 ms", "fairness", at_most(ours, "longest", 30, "ms")),
        ]
    for ours in ("rgun-async asyncio", "rgun-async uvloop"):
        goals += [
            Goal("raw ASGI: CPU at most 1.1 x peregrine", "asgi", beside(ours, ("peregrine asgi",), 1.1)),
            Goal("raw ASGI: at most 2/5 of granian", "asgi", beside(ours, ("granian asgi",), 0.4)),
            Goal("raw ASGI: at most 1/3 of uvicorn", "asgi", beside(ours, ("uvicorn",), 1 / 3)),
            Goal("FastAPI: at most peregrine", "fastapi", beside(ours, ("peregrine asgi",), 1.0)),
            Goal("1,000 x 100 ms, ASGI: 9,000/s", "sleep asgi", at_least(ours, "per_second", 9000, "req/s")),
            Goal("1,000 x 100 ms, ASGI: p99 130 ms", "sleep asgi", at_most(ours, "p99", 130, "ms")),
            Goal("system calls a request at most 2.1", "syscalls asgi", at_most(ours, "calls", 2.1, "calls")),
            Goal("longest wait beside 63 busy connections 30 ms", "fairness asgi", at_most(ours, "longest", 30, "ms")),
        ]
    goals += [
        Goal("a file of 10 KB: CPU level with nginx", "10 KB", beside("rgun-async", ("nginx",), 1.0)),
        Goal("a file of 10 MB: at most 1.5 x nginx", "10 MB", beside("rgun-async", ("nginx",), 1.5)),
    ]
    gevent, gthread = "rgun-async gevent", "rgun-async gthread"
    goals += [
        Goal("1,000 x 100 ms, gevent: 9,000/s", "sleep", at_least(gevent, "per_second", 9000, "req/s")),
        Goal("1,000 x 100 ms, gevent: p99 130 ms", "sleep", at_most(gevent, "p99", 130, "ms")),
        Goal("1,000 x 100 ms, gthread: 5,000/s", "sleep", at_least(gthread, "per_second", 5000, "req/s")),
        Goal("PSS of the master 5 MB", "memory", at_most(gevent, "master", 5, "MiB")),
        Goal(
            "PSS with 9 Flask workers: half of gunicorn gevent's", "memory",
            beside("rgun-async gevent --preload", ("gunicorn gevent", "gunicorn gevent --preload"), 0.5, "sum"),
        ),
    ]
    return goals


GOALS = _goals()
