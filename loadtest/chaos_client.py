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

With `tls` all of it goes through TLS, and with `h2` by HTTP/2, one request at a time on a connection. There a server says which requests
it has not begun (RFC 9113 section 6.8): they are sent again elsewhere, as every client does, and are no failure.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import socket
import ssl
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
    # Nothing, tls or h2.
    protocol: str = ""
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


class Unprocessed(Exception):
    """The server has said that it did not begin this request."""


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
        self.tls: ssl.SSLObject | None = None
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # What came before it was asked for, out of TLS.
        self.held = b""
        self.http2 = Http2()

    def expire(self) -> None:
        """Whoever waits for this connection wakes up and finds it ended."""
        self.overdue = True
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_RDWR)

    def has_ended(self) -> bool:
        """The server has closed it while it was idle."""
        if self.tls:
            return self.has_said_goodbye(self.tls)
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def has_said_goodbye(self, tls: ssl.SSLObject) -> bool:
        with contextlib.suppress(BlockingIOError):
            try:
                while data := self.sock.recv(65536):
                    self.incoming.write(data)
                self.incoming.write_eof()
            except ConnectionError:
                return True
        try:
            while data := tls.read(65536):
                self.held += data
        except ssl.SSLWantReadError:
            return any(kind == GOAWAY for kind, _, _, _ in frames(self.held)[0])
        except OSError:
            pass
        return True

    def close(self) -> None:
        self.sock.close()


HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, DATA = 1, 3, 4, 6, 7, 8, 0
ACK = END_STREAM = 1
END_HEADERS = 4
REFUSED_STREAM = 7
# What a client says first; it wants no table for the answers' fields.
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
NO_TABLE = b"\x00\x01\x00\x00\x00\x00"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame of HTTP/2 (RFC 9113 section 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def frames(data: bytes) -> tuple[list[tuple[int, int, int, bytes]], bytes]:
    """The whole frames that `data` begins with, as kind, flags, stream and payload; and the rest."""
    found = []
    while len(data) >= 9 and len(data) >= (end := 9 + int.from_bytes(data[:3], "big")):
        found.append((data[3], data[4], int.from_bytes(data[5:9], "big"), data[9:end]))
        data = data[end:]
    return found, data


class Http2:
    """A connection by HTTP/2, as far as one request at a time needs it."""

    def __init__(self) -> None:
        self.stream = -1
        self.leaving = False
        self.begin()

    def begin(self) -> None:
        self.status = 0
        self.body = b""
        self.ended = False

    def request(self, target: str) -> bytes:
        """What asks for `target` on the next stream."""
        self.begin()
        self.stream += 2
        opening = PREFACE + frame(SETTINGS, 0, 0, NO_TABLE) if self.stream == 1 else b""
        # GET and https stand in HPACK's table, :path and :authority do so without their values (RFC 7541 appendix A).
        path = target.encode()
        fields = b"\x82\x87\x04" + bytes([len(path)]) + path + b"\x01\x05chaos"
        return opening + frame(HEADERS, END_HEADERS | END_STREAM, self.stream, fields)

    def take(self, data: bytes) -> tuple[bytes, bytes]:
        """Takes in what came: what is to be answered, and the rest, of which more is to come.

        Raises Unprocessed and ConnectionResetError.
        """
        whole, rest = frames(data)
        answer = b""
        for kind, flags, stream, payload in whole:
            if kind in (SETTINGS, PING) and not flags & ACK:
                answer += frame(kind, ACK, 0, payload if kind == PING else b"")
            elif kind == GOAWAY:
                self.leaving = True
                if int.from_bytes(payload[:4], "big") < self.stream:
                    raise Unprocessed
            elif kind == RST_STREAM and stream == self.stream and not self.ended:
                code = int.from_bytes(payload, "big")
                if code == REFUSED_STREAM:
                    raise Unprocessed
                raise ConnectionResetError(f"the stream was reset with {code}")
            elif kind == HEADERS and stream == self.stream:
                # 200 stands in HPACK's table, perhaps behind a change of the table's size.
                self.status = 200 if payload.lstrip(b"\x20").startswith(b"\x88") else -1
            elif kind == DATA and stream == self.stream:
                self.body += payload
                if payload:
                    answer += frame(WINDOW_UPDATE, 0, 0, len(payload).to_bytes(4, "big"))
            if kind in (HEADERS, DATA) and stream == self.stream and flags & END_STREAM:
                self.ended = True
        return answer, rest


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
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.check_hostname = False
        self.context.verify_mode = ssl.CERT_NONE
        self.context.set_alpn_protocols(["h2"] if load.protocol == "h2" else ["http/1.1"])

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

    async def secure(self, connection: Connection) -> None:
        """The TLS handshake. Whose certificate it is does not matter here.

        Raises OSError.
        """
        tls = self.context.wrap_bio(connection.incoming, connection.outgoing)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await self.fill(connection)
        connection.tls = tls
        await self.send(connection, b"")

    async def fill(self, connection: Connection) -> None:
        await self.loop.sock_sendall(connection.sock, connection.outgoing.read())
        if data := await self.loop.sock_recv(connection.sock, 65536):
            connection.incoming.write(data)
        else:
            connection.incoming.write_eof()

    async def send(self, connection: Connection, data: bytes) -> None:
        if connection.tls:
            if data:
                connection.tls.write(data)
            data = connection.outgoing.read()
        await self.loop.sock_sendall(connection.sock, data)

    async def receive(self, connection: Connection) -> bytes:
        """What has come, at least a byte.

        Raises OSError, also at the end.
        """
        while connection.tls:
            try:
                if more := connection.tls.read(65536):
                    return more
                raise ConnectionResetError("end of TLS")
            except ssl.SSLWantReadError:
                await self.fill(connection)
        if more := await self.loop.sock_recv(connection.sock, 65536):
            return more
        raise ConnectionResetError("end of file")

    async def exchange(self, connection: Connection, target: str, expected: bytes, last: bool) -> bool:
        """Sends one request and reads its answer; whether the connection can be used again.

        Raises Failed and Unprocessed.
        """
        http2 = connection.http2 if self.load.protocol == "h2" else None
        request = f"GET {target} HTTP/1.1\r\nHost: chaos\r\n{'Connection: close' if last else 'Accept: */*'}\r\n\r\n"
        timer = self.loop.call_later(connection.timeout, connection.expire)
        sent = time.monotonic()
        answer = b""
        try:
            if self.load.protocol and not connection.tls:
                await self.secure(connection)
            if http2:
                await self.send(connection, http2.request(target))
                came, connection.held = connection.held, b""
                while not http2.ended:
                    reply, came = http2.take(came + await self.receive(connection))
                    answer = b"its head" if http2.status else b""
                    await self.send(connection, reply)
                connection.held = came
                whole = http2.status, http2.leaving, http2.body
            else:
                await self.send(connection, request.encode())
                while (whole := parse(answer)) is None:
                    answer += await self.receive(connection)
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
            while True:
                connection = connection or await self.connect()
                try:
                    usable = await self.exchange(connection, target, expected, last=not keep)
                    break
                except Unprocessed:
                    before.closed_idle += 1
                    connection.close()
                    connection = None
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
