"""What one idle WebSocket costs an ASGI app itself, without a server: python idle_own.py COUNT.

So many Tasks of the echo of tests/apps/websocket.py, each with its scope and its two callables, after one message; they wait for
the next, without a queue. Prints the bytes of each.
"""

import asyncio
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "apps"))
from websocket import app

# What a server has once, for all that ask alike.
FIELDS = ("host", "connection", "upgrade", "sec-websocket-version", "sec-websocket-key")
HEADERS = [(name.encode(), b"value of " + name.encode()) for name in FIELDS]
COMMON = {
    "type": "websocket",
    "asgi": {"version": "3.0", "spec_version": "2.5"},
    "http_version": "1.1",
    "scheme": "ws",
    "path": "/echo",
    "raw_path": b"/echo",
    "query_string": b"",
    "root_path": "",
    "server": ("127.0.0.1", 8000),
}


def scope(port):
    return {
        **COMMON,
        "headers": list(HEADERS),
        "client": ("127.0.0.1", port),
        "state": {},
        "subprotocols": [],
        "extensions": {"websocket.http.response": {}},
    }


def memory():
    return 1024 * int(re.search(r"^Private_Dirty:\s+(\d+)", pathlib.Path("/proc/self/smaps_rollup").read_text(), re.MULTILINE)[1])


async def main(count):
    loop = asyncio.get_running_loop()
    tasks = []
    waiting = 0

    def callables():
        asked = 0

        def receive():
            nonlocal asked, waiting
            future = loop.create_future()
            if asked == 0:
                future.set_result({"type": "websocket.connect"})
            elif asked == 1:
                future.set_result({"type": "websocket.receive", "text": "Hello"})
            else:
                waiting += 1
            asked += 1
            return future

        async def send(_message):
            pass

        return receive, send

    async def start(several):
        for port in range(several):
            tasks.append(asyncio.ensure_future(app(scope(10_000 + port), *callables())))
        await asyncio.sleep(0)
        assert waiting == len(tasks), waiting

    await start(500)
    before = memory()
    await start(count)
    print((memory() - before) // count)
    for task in tasks:
        task.cancel()


asyncio.run(main(int(sys.argv[1])))
