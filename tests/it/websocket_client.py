"""A real WebSocket client (https://websockets.readthedocs.io): python websocket_client.py SCENARIO URL."""

import asyncio
import os
import sys
import urllib.request

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus


async def talk(url):
    """Messages of every kind, with compression and without."""
    for compression in ("deflate", None):
        async with connect(url + "/echo", compression=compression, max_size=None) as ws:
            deflates = "permessage-deflate" in ws.response.headers.get("Sec-WebSocket-Extensions", "")
            assert deflates == (compression is not None), ws.response.headers
            noise = os.urandom(300_000)
            for message in ("", "ä€𝄞", "a" * 125, "b" * 126, "c" * 65535, "d" * 65536, b"", b"\0\xff", noise):
                await ws.send(message)
                assert await ws.recv() == message
            # In fragments, each a frame.
            await ws.send(["frag", "", "ment", "ed" * 5000])
            assert await ws.recv() == "fragmented" + "ed" * 4999
            await ws.send([noise[:1000], noise[1000:]])
            assert await ws.recv() == noise
            # What is like what came before, so that contexts that are carried on differ from those that are not.
            for number in range(200):
                text = f'{{"number": {number}, "list": [{", ".join(map(str, range(number)))}]}}'
                await ws.send(text)
                assert await ws.recv() == text
            await (await ws.ping(b"are you there"))
            await ws.close(4321, "enough")
            assert (ws.close_code, ws.close_reason) == (4321, ""), ws.close_reason


async def crowd(url):
    """Many at once, each with its own messages."""

    async def one(number):
        async with connect(url + "/echo") as ws:
            for step in range(20):
                text = f"{number}: {step} " * 20
                await ws.send(text)
                assert await ws.recv() == text

    await asyncio.gather(*(one(number) for number in range(100)))


async def choose(url):
    async with connect(url + "/choose", subprotocols=["first", "second"]) as ws:
        assert ws.subprotocol == "second"
        headers = ws.response.headers
        assert headers["x-app"] == "yes" and headers.get_all("set-cookie") == ["a=1", "b=2"], headers


async def flood(url):
    """Reads nothing for a while, then everything."""
    async with connect(url + "/flood", max_queue=1, compression=None) as ws:
        while not os.path.exists(os.environ["GO"]):
            await asyncio.sleep(0.01)
        async for message in ws:
            assert message == b"x" * 65536
        assert ws.close_code == 1000


async def press(url):
    """Sends until it has to wait, lets the app go on, and sends the rest."""
    async with connect(url + "/idle", compression=None) as ws:
        released = False
        for _ in range(400):
            sending = asyncio.ensure_future(ws.send(b"y" * 65536))
            done, _ = await asyncio.wait([sending], timeout=1)
            if not done and not released:
                released = True
                release = url.replace("ws://", "http://") + "/release"
                await asyncio.to_thread(lambda: urllib.request.urlopen(release).read())
            await sending
        assert released, "the app never held the client back"


async def bomb(url):
    """More than is taken, once it is unpacked."""
    async with connect(url + "/echo") as ws:
        await ws.send("z" * 65_536)
        assert len(await ws.recv()) == 65_536
        await ws.send("z" * 65_537)
        try:
            await ws.recv()
        except ConnectionClosed as closed:
            assert closed.rcvd.code == 1009, closed
        else:
            raise AssertionError("it was taken")


async def ends(url):
    """What each end of an app comes to."""
    for path, code in (("/leave/accepted", 1000), ("/fail/accepted", 1011)):
        async with connect(url + path) as ws:
            try:
                await ws.recv()
            except ConnectionClosed as closed:
                assert closed.rcvd.code == code, (path, closed)
            else:
                raise AssertionError(path)
    for path, status, body in (
        ("/refuse", 403, b""),
        ("/respond", 401, b"not you"),
        ("/leave", 500, None),
        ("/fail", 500, None),
    ):
        try:
            await connect(url + path)
        except InvalidStatus as refused:
            assert refused.response.status_code == status, (path, refused)
            assert body is None or refused.response.body == body, refused.response.body
        else:
            raise AssertionError(path)


async def stay(url):
    """Stays until the server closes, and tells how."""
    async with connect(url) as ws:
        await ws.send("here")
        assert await ws.recv() == "here"
        print("connected", flush=True)
        try:
            await ws.recv()
        except ConnectionClosed as closed:
            print(closed.rcvd.code, flush=True)


asyncio.run(asyncio.wait_for(globals()[sys.argv[1]](sys.argv[2]), 60))
