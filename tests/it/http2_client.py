"""A real HTTP/2 client (https://python-hyper.org, the one that httpx has): python http2_client.py SCENARIO HOST PORT."""

import json
import socket
import sys
import time

import h2.config
import h2.connection
import h2.events


class Client:
    def __init__(self, host, port):
        self.socket = socket.create_connection((host, int(port)), timeout=60)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self.h2.initiate_connection()
        self.flush()
        self.events = []

    def flush(self):
        self.socket.sendall(self.h2.data_to_send())

    def request(self, method, path, *fields, body=None, end=True):
        stream = self.h2.get_next_available_stream_id()
        head = [(":method", method), (":scheme", "http"), (":authority", "example.org"), (":path", path), *fields]
        self.h2.send_headers(stream, head, end_stream=end and body is None)
        if body is not None:
            self.send(stream, body, end)
        self.flush()
        return stream

    def send(self, stream, body, end):
        while body:
            room = min(self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
            if room == 0:
                self.flush()
                self.read()
                continue
            self.h2.send_data(stream, body[:room])
            body = body[room:]
        if end:
            self.h2.end_stream(stream)
        self.flush()

    def read(self):
        """Reads what is there, at least something; false at the end."""
        data = self.socket.recv(65536)
        if not data:
            return False
        for event in self.h2.receive_data(data):
            if isinstance(event, h2.events.DataReceived):
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            self.events.append(event)
        self.flush()
        return True

    def wait(self, kind, stream=None):
        """The first event of a kind, taken out."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and (stream is None or event.stream_id == stream):
                    self.events.remove(event)
                    return event
            assert self.read(), f"no {kind.__name__}"

    def answer(self, stream):
        head = dict(self.wait(h2.events.ResponseReceived, stream).headers)
        self.wait(h2.events.StreamEnded, stream)
        pieces = [e.data for e in self.events if isinstance(e, h2.events.DataReceived) and e.stream_id == stream]
        return int(head[":status"]), head, b"".join(pieces)


def facts(client):
    """What a WSGI app is told."""
    cookies = [("cookie", "a=1"), ("cookie", "b=2")]
    stream = client.request("GET", "/environ?q=1", *cookies, ("x-some", "thing"))
    status, head, body = client.answer(stream)
    environ = json.loads(body)["environ"]
    assert status == 200, status
    assert environ["SERVER_PROTOCOL"] == "HTTP/2.0", environ
    assert environ["HTTP_HOST"] == "example.org", environ
    assert environ["HTTP_COOKIE"] == "a=1; b=2", environ
    assert environ["HTTP_X_SOME"] == "thing" and environ["QUERY_STRING"] == "q=1", environ
    assert environ["PATH_INFO"] == "/environ" and environ["RAW_URI"] == "/environ?q=1", environ
    assert not [name for name in environ if name.startswith("HTTP_:")], environ
    assert head["server"] == "rgun-async" and "date" in head, head
    assert "connection" not in head and "transfer-encoding" not in head, head
    # A body, with its length and without.
    for fields in ([("content-length", "300000")], []):
        stream = client.request("POST", "/read", *fields, body=b"abc" * 100_000)
        status, _, body = client.answer(stream)
        assert (status, json.loads(body)["length"]) == (200, 300_000), body
    for path, expected in (("/chunks", (200, b"one two three")), ("/no-content", (204, b"")),
                           ("/hop-by-hop", (200, b"hop")), ("/late", (201, b"late")), ("/raise", (500, None)),
                           ("/write", (200, b"written, twice, then returned"))):
        status, head, body = client.answer(client.request("GET", path))
        assert status == expected[0] and body == (expected[1] if expected[1] is not None else body), (path, body)
        assert "connection" not in head, (path, head)
    status, head, body = client.answer(client.request("HEAD", "/hello"))
    assert (status, body) == (200, b""), body


def scope(client):
    """What an ASGI app is told."""
    status, _, body = client.answer(client.request("GET", "/facts?q=1", ("cookie", "a=1"), ("cookie", "b=2")))
    told = json.loads(body)["scope"]
    assert status == 200, status
    assert told["http_version"] == "'2'", told
    assert told["path"] == "'/facts'" and told["query_string"] == "b'q=1'", told
    assert "(b'host', b'example.org')" in told["headers"] and "(b'cookie', b'a=1; b=2')" in told["headers"], told
    assert "early_hint" in told["extensions"] and "trailers" in told["extensions"], told
    status, _, body = client.answer(client.request("POST", "/count", body=b"x" * 1_000_000))
    assert (status, body.split()[0]) == (200, b"1000000"), body
    status, _, body = client.answer(client.request("GET", "/path"))
    assert status == 200 and b"pathsend" in body, status


def hints(client):
    """Interim responses come before the answer."""
    for path, name in (("/hints?200", "link"), ("/hints", "link")):
        stream = client.request("GET", path)
        for _ in range(2):
            hint = client.wait(h2.events.InformationalResponseReceived, stream)
            assert (":status", "103") in hint.headers and name in dict(hint.headers), hint.headers
        status, head, body = client.answer(stream)
        assert (status, head["x-final"], body) == (200, "1", b"hinted"), head


def busy_hint(client):
    """A hint is with the client while the app, which is at work, holds the worker."""
    path = sys.argv[4]
    stream = client.request("GET", "/busy?" + path)
    hint = client.wait(h2.events.InformationalResponseReceived, stream)
    assert (":status", "103") in hint.headers, hint.headers
    with open(path, "w"):
        pass
    assert client.answer(stream)[0] == 200


def trailers(client):
    stream = client.request("GET", "/trailers")
    sent = client.wait(h2.events.TrailersReceived, stream)
    assert ("x-sum", "2") in sent.headers, sent.headers
    assert client.answer(stream)[2] == b"one two"


def expect(client):
    """The body is asked for before it is sent."""
    stream = client.request("POST", "/echo", ("expect", "100-continue"), end=False)
    asked = client.wait(h2.events.InformationalResponseReceived, stream)
    assert (":status", "100") in asked.headers, asked.headers
    client.send(stream, b"asked for", True)
    assert client.answer(stream)[::2] == (200, b"asked for")


def together(client):
    """Later requests are answered while earlier ones wait."""
    slow = [client.request("GET", "/sleep?1500") for _ in range(20)]
    began = time.monotonic()
    for _ in range(50):
        assert client.answer(client.request("GET", "/hello"))[0] == 200
    assert not [e for e in client.events if isinstance(e, h2.events.ResponseReceived)], "they were to be slow"
    for stream in slow:
        assert client.answer(stream)[::2] == (200, b"slept")
    assert time.monotonic() - began < 15, "one after the other"


def dialogue(client):
    """A request and its answer at the same time."""
    stream = client.request("POST", "/piecewise", end=False)
    for number in range(20):
        piece = f"piece {number}".encode()
        client.send(stream, piece, False)
        assert client.wait(h2.events.DataReceived, stream).data == piece
    client.send(stream, b"", True)
    client.wait(h2.events.StreamEnded, stream)


def cancel(client):
    """The app is told of a client that cancels one request; the others go on."""
    other = client.request("GET", "/sleep?300")
    for path in ("/leave", "/deaf", "/chatty"):
        stream = client.request("GET", path)
        if path == "/chatty":
            client.wait(h2.events.DataReceived, stream)
        else:
            time.sleep(0.3)
        client.h2.reset_stream(stream, 8)
        client.flush()
    assert client.answer(other)[0] == 200
    assert client.answer(client.request("GET", "/hello"))[0] == 200


if __name__ == "__main__":
    globals()[sys.argv[1]](Client(sys.argv[2], sys.argv[3]))
