"""The client of the chaos test: steady load of three kinds, and a name for every failure.

A process of its own, so that nothing else delays it. It prints `up` when each kind has been answered once, reads `window` and `end`
on its standard input, and prints one list of JSON at the end, a window each. A request counts for the window in which it
ended, one that timed out for the window in which it began.

Three kinds of requests, all at once:

- `new`: a connection for each request;
- `kept`: connections that are kept, half of them idle for about a second between two requests;
- `slow`: requests that the app takes 0.3 s for, half of them on kept connections.

How a request can fail:

- `refused`: no connection could be made;
- `reset before`: the connection ended before the first byte of the answer;
- `reset within`: the connection ended within the answer;
- `race`: a kept connection ended as the request was sent on it. HTTP cannot avoid it (RFC 9112 section 9.3.1), and clients
  try again by themselves. So it is counted apart, and only what ended at once is called so: the client looks before it sends whether
  the server has closed, and a request that was some time with the server was lost, whatever connection it came on;
- `timeout`: no answer in time;
- `bad answer`: another status than 200, or an answer to something else.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import socket
import sys
import threading
import time

FAILURES = ("refused", "reset before", "reset within", "race", "timeout", "bad answer")

# A kept connection that ended later than this after the request was sent, ended while the server had the request.
RACE = 0.1

# More failures of one window are counted, not described.
DESCRIBED = 2000


@dataclasses.dataclass
class Load:
    """What the client does; seconds, except where it says otherwise."""

    port: int = 0
    path: str = ""
    new: int = 8
    kept: int = 24
    slow: int = 8
    # The mean of what is left between two requests of one loop.
    pause: float = 0.025
    slow_ms: int = 300
    timeout: float = 10.0
    # It ends by itself after so many.
    requests: int = 0


class Failed(Exception):
    """Its first argument is one of FAILURES."""


class Window:
    """What ended while one operation was under way."""

    def __init__(self) -> None:
        self.answered = {"new": 0, "kept": 0, "slow": 0}
        self.failures = dict.fromkeys(FAILURES, 0)
        self.worst = 0.0
        self.closed_idle = 0
        self.described: list[dict] = []


class Connection:
    """A socket, and what is known about its end."""

    def __init__(self, sock: socket.socket, timeout: float) -> None:
        self.sock = sock
        self.timeout = timeout
        self.opened = time.monotonic()
        self.served = 0
        self.overdue = False
        # By what the machine knows our end: the port, or the number of the unix socket.
        self.name = 0

    def expire(self) -> None:
        """Whoever waits for this connection wakes up and finds it ended."""
        self.overdue = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def has_ended(self) -> bool:
        """The server has closed it while it was idle."""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        self.sock.close()


class Client:
    """The loops and what they count."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.windows = [Window()]
        self.number = 0
        # Kinds that have not been answered yet.
        self.awaited = {kind for kind in ("new", "kept", "slow") if getattr(load, kind)}
        self.stopping = False
        self.loop = asyncio.get_running_loop()

    # ----- one request -----

    async def connect(self) -> Connection:
        """A new connection.

        Raises Failed.
        """
        unix = bool(self.load.path)
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        connection = Connection(sock, self.load.timeout)
        timer = self.loop.call_later(self.load.timeout, connection.expire)
        try:
            if unix:
                await self.connect_unix(connection)
                connection.name = os.fstat(sock.fileno()).st_ino
            else:
                await self.loop.sock_connect(sock, ("127.0.0.1", self.load.port))
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connection.name = sock.getsockname()[1]
        except OSError as error:
            connection.close()
            raise Failed("timeout" if connection.overdue else "refused", f"connect: {error}") from error
        finally:
            timer.cancel()
        return connection

    async def connect_unix(self, connection: Connection) -> None:
        # A unix socket whose queue is full says EAGAIN, and nothing tells when it has room.
        while not connection.overdue:
            try:
                return connection.sock.connect(self.load.path)
            except BlockingIOError:
                await asyncio.sleep(0.005)
        raise TimeoutError("the queue stayed full")

    async def exchange(self, connection: Connection, target: str, expected: bytes, last: bool) -> bool:
        """Sends one request and reads its answer; whether the connection can be used again.

        Raises Failed.
        """
        request = f"GET {target} HTTP/1.1\r\nHost: chaos\r\n{'Connection: close' if last else 'Accept: */*'}\r\n\r\n"
        timer = self.loop.call_later(connection.timeout, connection.expire)
        sent = time.monotonic()
        answer = b""
        try:
            await self.loop.sock_sendall(connection.sock, request.encode())
            while (whole := parse(answer)) is None:
                more = await self.loop.sock_recv(connection.sock, 65536)
                if not more:
                    raise ConnectionResetError("end of file")
                answer += more
        except OSError as error:
            if connection.overdue:
                raise Failed("timeout", f"{len(answer)} bytes of an answer") from error
            if answer:
                raise Failed("reset within", str(error)) from error
            if connection.served and time.monotonic() - sent < RACE:
                raise Failed("race", str(error)) from error
            raise Failed("reset before", str(error)) from error
        finally:
            timer.cancel()
        status, closes, body = whole
        if status != 200 or expected not in body:
            raise Failed("bad answer", f"{status} {body[:80]!r}, not {expected!r}")
        connection.served += 1
        return not (closes or last)

    async def request(self, kind: str, kept: Connection | None, keep: bool) -> Connection | None:
        """One request of a loop, counted; the connection for the next one, if there is one."""
        self.number += 1
        if self.number == self.load.requests:
            self.stopping = True
        if kind == "slow":
            waits = self.load.slow_ms / 1000
            target, expected = f"/sleep/{self.load.slow_ms}", f"slept {self.load.slow_ms} ms".encode()
        else:
            waits = 0.0
            target, expected = f"/users/{self.number}", f"user {self.number}".encode()
        before = self.windows[-1]
        if kept is not None and kept.has_ended():
            before.closed_idle += 1
            kept.close()
            kept = None
        began = time.monotonic()
        connection = kept
        try:
            connection = connection or await self.connect()
            usable = await self.exchange(connection, target, expected, last=not keep)
        except Failed as failure:
            what, why = failure.args
            window = before if what == "timeout" else self.windows[-1]
            window.failures[what] += 1
            if len(window.described) < DESCRIBED:
                window.described.append({
                    "failure": what, "why": why, "kind": kind, "began": began, "ended": time.monotonic(),
                    "connection": connection.name if connection else 0,
                    "opened": connection.opened if connection else 0.0,
                    "answers before": connection.served if connection else 0,
                })  # fmt: skip
            if connection:
                connection.close()
            # A server that refuses everything is not to be asked a million times.
            await asyncio.sleep(0.02)
            return None
        window = self.windows[-1]
        window.answered[kind] += 1
        if kind in self.awaited:
            self.awaited.remove(kind)
            if not self.awaited:
                print("up", flush=True)
        window.worst = max(window.worst, time.monotonic() - began - waits)
        if usable:
            return connection
        connection.close()
        return None

    # ----- the loops -----

    async def repeat(self, kind: str, keep: bool, pause: float) -> None:
        connection = None
        await asyncio.sleep(random.uniform(0, pause))
        while not self.stopping:
            connection = await self.request(kind, connection, keep)
            if pause:
                await asyncio.sleep(random.uniform(0, 2 * pause))
        if connection:
            connection.close()

    async def run(self) -> None:
        load = self.load
        loops = [self.repeat("new", False, load.pause) for _ in range(load.new)]
        loops += [self.repeat("kept", True, load.pause if at % 2 else 1.0) for at in range(load.kept)]
        loops += [self.repeat("slow", bool(at % 2), 0.01) for at in range(load.slow)]
        await asyncio.gather(*loops)

    def hear(self, line: str) -> None:
        """A line of the standard input; its end is `end`."""
        if line.strip() == "window":
            self.windows.append(Window())
        else:
            self.stopping = True


def parse(answer: bytes) -> tuple[int, bool, bytes] | None:
    """Status, whether the connection ends, and body of a whole answer; None where more is to come."""
    head, separator, body = answer.partition(b"\r\n\r\n")
    if not separator:
        return None
    first, *lines = head.split(b"\r\n")
    fields = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines)}
    closes = fields.get(b"connection", b"").lower() == b"close"
    if fields.get(b"transfer-encoding", b"").lower() == b"chunked":
        if not body.endswith(b"0\r\n\r\n"):
            return None
    elif len(body) < int(fields.get(b"content-length", b"0")):
        return None
    return int(first.split()[1]), closes, body


async def main() -> None:
    client = Client(Load(**json.loads(sys.argv[1])))

    def listen() -> None:
        for line in sys.stdin:
            client.loop.call_soon_threadsafe(client.hear, line)
        if not client.load.requests:
            client.loop.call_soon_threadsafe(client.hear, "end")

    threading.Thread(target=listen, daemon=True).start()
    await client.run()
    json.dump([window.__dict__ for window in client.windows], sys.stdout)


if __name__ == "__main__":
    asyncio.run(main())
