"""Services with protocols of their own, beside an app:

    rgun-async -k asgi -b :8000 -b tcp://:9000=rpc:lines -b tcp://:9001=rpc:frames rpc:app
    rgun-async -k gevent -b :8000 -b tcp://:9000=rpc:lines_blocking rpc:wsgi
"""

import struct


def answer(line):
    words = line.split()
    if words[:1] == ["add"]:
        return str(sum(int(word) for word in words[1:]))
    return "error: add NUMBERS"


async def lines(reader, writer):
    """Text: each line is answered with one."""
    # Without input there is nothing to do: the client has left, or the worker is about to.
    while line := await reader.readline():
        writer.write(answer(line.decode()).encode() + b"\n")
        await writer.drain()


async def frames(reader, writer):
    """Four bytes of length, the highest first, and so many bytes; each frame is answered with itself, backwards."""
    while head := await reader.read(4):
        head += await reader.readexactly(4 - len(head))
        (length,) = struct.unpack("!I", head)
        frame = await reader.readexactly(min(length, 65536))
        writer.write(head + frame[::-1])
        await writer.drain()


def lines_blocking(socket, address):
    """The same as `lines`, for gevent: each connection has a greenlet."""
    with socket.makefile("rw", newline="\n") as file:
        for line in file:
            if line.split() == ["who"]:
                file.write(f"{address[0]}:{address[1]}\n")
            else:
                file.write(answer(line) + "\n")
            file.flush()


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
