"""What the wheel is tried with in each Python: C extensions, before and after a fork, in a process of its own, and where all
this runs. As a WSGI app and as an ASGI app."""

import json
import multiprocessing
import os
import sys

import numpy

# Before any request: what BLAS sets up in this process has to work in its children.
SQUARE = numpy.arange(250_000, dtype=float).reshape(500, 500) / 1000
TRACE = round(float((SQUARE @ SQUARE).trace()), 3)


def trace():
    return round(float((SQUARE @ SQUARE).trace()), 3)


def facts():
    return {
        "python": list(sys.version_info[:2]),
        "prefix": sys.prefix,
        "executable": sys.executable,
        "numpy": [numpy.__file__, trace() == TRACE],
        "optimize": sys.flags.optimize,
        "master": os.getppid(),
        "loop": None,
    }


def forked():
    """The same product in a child of this worker."""
    receive, send = os.pipe()
    if (child := os.fork()) == 0:
        os.write(send, b"right" if trace() == TRACE else b"wrong")
        os._exit(0)
    os.close(send)
    said = os.read(receive, 10).decode()
    os.close(receive)
    return [said, os.waitpid(child, 0)[1]]


def spawned():
    """And in a new interpreter, which has to find its way back to this module."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(trace) == TRACE


def answer(path):
    return json.dumps({"/": facts, "/fork": forked, "/spawn": spawned}[path]()).encode()


def app(environ, start_response):
    body = answer(environ["PATH_INFO"])
    start_response("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]


async def asgi(scope, receive, send):
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    import asyncio

    told = json.loads(answer(scope["path"]))
    if scope["path"] == "/":
        told["loop"] = type(asyncio.get_running_loop()).__module__
    body = json.dumps(told).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
