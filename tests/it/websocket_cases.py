"""Compressed messages of every kind, size and agreement to an echo: python websocket_cases.py FAMILY URL. What is not compressed is in websocket_frames.py.

The cases are those of the Autobahn suite: family 12 (five kinds of data) and 13 (seven offers of parameters), each with 18 sizes
and fragmentations, 216 in all. The suite sends 1,000 messages in each, which takes hours where every byte is checked in Python;
here they are as many as fill several windows of the compression, and two at least.
"""

import asyncio
import itertools
import json
import random
import sys
import zlib

from websockets.asyncio.client import connect
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory as Offer

# Length of a message in characters, and of its fragments, if there are to be several.
WHOLE = [(size, None) for size in (16, 64, 256, 1024, 4096, 8192, 16384, 32768, 65536, 131072)]
PARTS = [(size, 256) for size in (8192, 16384, 32768, 65536, 131072)]
SIZES = WHOLE + PARTS + [(131072, 1024), (131072, 4096), (131072, 32768)]

# Bytes that a case sends: the largest window is 32 KiB.
ENOUGH = 256 << 10
MOST = 64

# What a client may ask for of the server's window; 13.7 offers three at once.
OFFERS = [
    [{}],
    [{"server_no_context_takeover": True}],
    [{"server_max_window_bits": 9}],
    [{"server_max_window_bits": 15}],
    [{"server_no_context_takeover": True, "server_max_window_bits": 9}],
    [{"server_no_context_takeover": True, "server_max_window_bits": 15}],
    [{"server_no_context_takeover": True, "server_max_window_bits": 9}, {"server_no_context_takeover": True}, {}],
]

luck = random.Random(12)
WORDS = ["".join(luck.choices("abcdefghijklmnopqrstuvwxyzäöüß", k=luck.randint(1, 11))) for _ in range(3000)]


def prose():
    return " ".join(luck.choices(WORDS, weights=[1 / (rank + 1) for rank in range(len(WORDS))], k=40_000))


def records():
    rows = [{"id": row, "name": luck.choice(WORDS), "ratio": luck.random(), "tags": luck.choices(WORDS, k=3)} for row in range(2000)]
    return json.dumps(rows, ensure_ascii=False)


def picture():
    """Grey, 512 by 512: neighbours are alike, none are equal for long."""
    return bytes((x * y // 700 + luck.randint(0, 3)) % 256 for y in range(512) for x in range(512))


def page():
    rows = (f'<tr class="row"><td>{row}</td><td><a href="/item/{row}">{luck.choice(WORDS)}</a></td></tr>' for row in range(4000))
    return ("<html><body><table>" + "\n".join(rows) + "</table></body></html>").encode()


def packed():
    """What is compressed already, with some text between."""
    return b"".join(b"\nendstream\nendobj %d 0 obj\n" % part + zlib.compress(luck.randbytes(3000)) for part in range(100))


# The first is text, the others are binary, as in the suite.
DATA = [records(), picture(), prose().encode(), page(), packed()]


def pieces(data, size):
    """Messages of this size, one after the other and round again."""
    data = data + data[:size] if len(data) > size else data * (size // len(data) + 2)
    for start in itertools.count(0, size):
        start %= len(data) - size
        yield data[start : start + size]


async def case(url, name, data, size, fragment, offers):
    extensions = [Offer(client_max_window_bits=True, **offer) for offer in offers]
    async with connect(url, extensions=extensions, compression=None, max_size=None) as ws:
        agreed = ws.response.headers.get("Sec-WebSocket-Extensions", "")
        wanted = offers[0]
        assert agreed.startswith("permessage-deflate"), f"{name}: {agreed!r}"
        assert ("server_no_context_takeover" in agreed) >= wanted.get("server_no_context_takeover", False), f"{name}: {agreed}"
        bits = [int(part.split("=")[1]) for part in agreed.split(";") if "server_max_window_bits" in part]
        assert not bits or bits[0] <= wanted["server_max_window_bits"], f"{name}: {agreed}"
        assert bits or "server_max_window_bits" not in wanted, f"{name}: {agreed}"
        count = max(2, min(MOST, ENOUGH // size))
        for message in itertools.islice(pieces(data, size), count):
            if fragment is None:
                await ws.send(message)
            else:
                await ws.send([message[start : start + fragment] for start in range(0, size, fragment)])
            assert await ws.recv() == message, f"{name}: not what was sent"


def cases(family):
    if family == "12":
        kinds = [(data, OFFERS[0]) for data in DATA]
    else:
        kinds = [(DATA[0], offers) for offers in OFFERS]
    for (kind, (data, offers)), (number, (size, fragment)) in itertools.product(enumerate(kinds, 1), enumerate(SIZES, 1)):
        yield f"{family}.{kind}.{number}", data, size, fragment, offers


async def main(family, url):
    names = set()
    for one in cases(family):
        await case(url, *one)
        names.add(one[0])
    print(len(names))


asyncio.run(main(*sys.argv[1:]))
