"""Services with protocols of their own, beside an app:

    rgun-async -k asgi -b :8000 -b tcp://:9000=rpc:lines -b tcp://:9001=rpc:frames rpc:app
    rgun-async -k gevent -b :8000 -b tcp://:9000=rpc:lines_blocking -b tcp://:9001=rpc:frames_blocking rpc:wsgi
"""

import struct

# The longest line or frame: a client decides what it sends, not how much memory that takes.
LONGEST = 64 * 1024
LENGTH = struct.Struct("!I")


def answer(line):
    """`add 1 2` is answered with `3`."""
    words = line.split()
    try:
        if words[:1] == ["add"]:
            return str(sum(int(word) for word in words[1:]))
    except ValueError:
        pass
    return "error: add NUMBERS"


# Under asgi: a coroutine for each connection, with asyncio's streams.


async def lines(reader, writer):
    """Text: each line is answered with one."""
    # Without input there is nothing to do: the client has left, or the worker is about to. A line that is longer than
    # asyncio's own limit, 64 KiB, is an error, which ends the connection and is logged.
    while line := await reader.readline():
        writer.write(answer(line.decode(errors="replace")).encode() + b"\n")
        await writer.drain()


async def frames(reader, writer):
    """Four bytes of length, the highest first, and so many bytes; each frame is answered with itself, backwards."""
    while head := await reader.read(1):
        head += await reader.readexactly(LENGTH.size - 1)
        (length,) = LENGTH.unpack(head)
        if length > LONGEST:
            raise ValueError(f"a frame of {length} bytes")
        frame = await reader.readexactly(length)
        writer.write(head + frame[::-1])
        await writer.drain()


# Under gevent: a greenlet for each connection, with a socket that seems to block.


def lines_blocking(socket, address):
    """The same as `lines`."""
    # For reading alone: a text file that is written to forgets what it has read ahead.
    with socket.makefile("r", newline="\n", errors="replace") as file:
        while line := file.readline(LONGEST):
            said = f"{address[0]}:{address[1]}" if line.split() == ["who"] else answer(line)
            socket.sendall(said.encode() + b"\n")


def frames_blocking(socket, address):
    """The same as `frames`."""
    with socket.makefile("rb") as file:
        while head := file.read(LENGTH.size):
            (length,) = LENGTH.unpack(head)
            if length > LONGEST:
                raise ValueError(f"a frame of {length} bytes")
            frame = file.read(length)
            if len(frame) < length:
                raise EOFError("the client has left within a frame")
            socket.sendall(head + frame[::-1])


async def app(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


def wsgi(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [b"hello"]
