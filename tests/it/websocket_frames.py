"""The Autobahn suite's cases 1 to 10 against an echo, frame by frame: python websocket_frames.py URL WAIT.

The cases are written after the suite's published list, with its numbers: 247 without its ninth family, large messages and many
round trips, which are 54 more. Each has one of the suite's verdicts: OK; NON-STRICT, where a rule that a server should keep is not
kept; INFORMATIONAL, where anything goes as long as the connection ends; FAILED. SILENT is ours: the suite takes it for OK, but a close
frame with the reason was to come before the end. WAIT is how many seconds a server has to fail a text that is broken before
it is whole; who does not is not strict. The verdicts are printed as JSON: a list of cases for each.
"""

import asyncio
import collections
import itertools
import json
import os
import ssl
import sys
import traceback
from urllib.parse import urlsplit

CONT, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
NORMAL, PROTOCOL, INVALID = 1000, 1002, 1007
# What a connection may take to end, or to answer at all.
PATIENCE = 60 * float(os.environ.get("RGUN_TEST_PATIENCE", "1"))
# How long nothing may come where nothing is to come: a wait that proves nothing where it is too short.
QUIET = 0.1
# Bytes that are written before the loop has a turn.
BURST = 16 << 10

HANDSHAKE = (
    "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)


def frame(opcode, payload=b"", fin=True, rsv=0, length=None):
    """As a client sends it, masked. A payload is repeated to `length`."""
    if length is not None:
        payload = (payload * (length // len(payload) + 1))[:length]
    size = len(payload)
    head = bytearray([fin << 7 | rsv << 4 | opcode])
    if size < 126:
        head.append(0x80 | size)
    elif size < 1 << 16:
        head += b"\xfe" + size.to_bytes(2, "big")
    else:
        head += b"\xff" + size.to_bytes(8, "big")
    mask = os.urandom(4)
    key = (mask * (size // 4 + 1))[:size]
    masked = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(size, "big")
    return bytes(head) + mask + masked


def parts(opcode, payload, size):
    """A message in frames of so many bytes."""
    starts = range(0, max(len(payload), 1), size)
    for start in starts:
        piece = payload[start : start + size]
        yield frame(opcode if start == 0 else CONT, piece, fin=start == starts[-1])


def close(code=None, reason=b""):
    return frame(CLOSE, (b"" if code is None else code.to_bytes(2, "big")) + reason)


class Ended(Exception):
    """The server has closed the connection."""


class Peer:
    """A connection that is open."""

    def __init__(self, reader, writer):
        self.reader, self.writer = reader, writer
        # What came, as the suite notes it: ("message", bytes, is binary), ("pong", bytes).
        self.heard = []
        # The server's close frame: None, or its code, which may be missing.
        self.closed = None

    @classmethod
    async def open(cls, url):
        parts = urlsplit(url)
        tls = None
        if parts.scheme == "wss":
            # Who signs is told by SSL_CERT_FILE; the name is not an address.
            tls = ssl.create_default_context()
            tls.check_hostname = False
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port, ssl=tls, limit=1 << 20)
        writer.write(HANDSHAKE.format(path=parts.path, host=parts.netloc).encode())
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ") and b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in head, head
        return cls(reader, writer)

    async def send(self, data, chop=None):
        """Writes bytes, in chops of so many; a server that has gone is seen when it is read from."""
        chop = chop or max(len(data), 1)
        try:
            for start in range(0, len(data), chop):
                self.writer.write(data[start : start + chop])
                if start % BURST < chop:
                    await self.writer.drain()
                    await asyncio.sleep(0)
        except ConnectionError:
            pass

    async def frame(self):
        try:
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            assert not second & 0x80, "a masked frame"
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8), "big")
            return first, await self.reader.readexactly(size)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Ended from None

    async def read(self):
        """The next event; its message put together. Not to be cut off in the middle of a frame."""
        message, kind = b"", None
        while True:
            first, payload = await self.frame()
            fin, opcode = first & 0x80, first & 0x0F
            assert not first & 0x70, f"reserved bits: {first:x}"
            assert self.closed is None, "a frame behind the close"
            if opcode == CLOSE:
                self.closed = (int.from_bytes(payload[:2], "big") if payload else None,)
                continue
            if opcode == PONG:
                self.heard.append(("pong", payload))
                return
            assert opcode in (CONT, TEXT, BINARY) and (opcode == CONT) == (kind is not None), f"opcode {opcode}"
            kind = opcode or kind
            message += payload
            if fin:
                self.heard.append(("message", message, kind == BINARY))
                return

    async def rest(self):
        """All that comes, to the end of the connection."""
        try:
            while True:
                await self.read()
        except Ended:
            self.writer.close()

    async def ends_within(self, seconds):
        """Whether the server ends it meanwhile."""
        rest = asyncio.ensure_future(self.rest())
        done, _ = await asyncio.wait([rest], timeout=seconds)
        if not done:
            rest.cancel()
            await asyncio.wait([rest])
        elif rest.exception():
            raise rest.exception()
        return bool(done)


def message(text, binary=False):
    return ("message", text, binary)


def pong(payload):
    return ("pong", payload)


async def echoed(peer, sent, expected, chop=None, frames=False):
    """What is answered, event by event; then we close, and the server does."""
    for data in sent if frames else [b"".join(sent)]:
        await peer.send(data, chop)
    while len(peer.heard) < len(expected):
        await peer.read()
    await peer.send(close(NORMAL))
    await peer.rest()
    assert peer.heard == expected, f"heard {peer.heard!r:.200}"
    assert peer.closed == (NORMAL,), f"closed by {peer.closed}"
    return "OK"


async def failed(peer, sent, expected, codes=(PROTOCOL,), chop=None, frames=False):
    """The server ends the connection, after it has answered what came before."""
    for data in sent if frames else [b"".join(sent)]:
        await peer.send(data, chop)
    await peer.rest()
    verdict = "OK"
    if peer.heard != expected:
        assert peer.heard == [], f"heard {peer.heard!r:.200}"
        verdict = "NON-STRICT"
    if peer.closed is None:
        return "SILENT" if verdict == "OK" else verdict
    assert peer.closed[0] in codes, f"closed by {peer.closed}"
    return verdict


async def closing(peer, sent, codes, silent_too=False):
    """We have said that we close; so does the server, and nothing else."""
    await peer.send(b"".join(sent))
    await peer.rest()
    assert peer.heard == [], f"heard {peer.heard!r:.200}"
    if peer.closed is None:
        assert silent_too, "it did not close in order"
        return "SILENT"
    assert peer.closed[0] in codes, f"closed by {peer.closed}"
    return "OK"


async def anyhow(peer, sent):
    await peer.send(b"".join(sent))
    await peer.rest()
    return "INFORMATIONAL"


async def fast(peer, first, second, third):
    """The second part breaks the text; the third completes the message."""
    await peer.send(first)
    assert not await peer.ends_within(QUIET), "the first part is no mistake"
    await peer.send(second)
    verdict = "OK"
    if not await peer.ends_within(WAIT):
        verdict = "NON-STRICT"
        await peer.send(third)
        await peer.rest()
    assert peer.heard == [], f"heard {peer.heard!r:.200}"
    if peer.closed is None:
        return "SILENT" if verdict == "OK" else verdict
    assert peer.closed == (INVALID,), f"closed by {peer.closed}"
    return verdict


async def halting(peer, frames):
    """Pings between the parts of a message: they are answered first, and at once."""
    first, second, third = b"".join(frames[:3]), b"".join(frames[3:6]), frames[6]
    await peer.send(first)
    await peer.read()
    assert peer.heard == [pong(b"pongme 1!")], peer.heard
    return await echoed(peer, [second, third], [*peer.heard, pong(b"pongme 2!"), message(b"fragment1fragment2fragment3fragment4fragment5")])


async def trips(peer, opcode, piece, size, count=1000):
    """One message after the other, each echoed before the next."""
    payload = piece * size
    expected = message(payload, opcode == BINARY)
    for _ in range(count):
        await peer.send(frame(opcode, payload))
        await peer.read()
        assert peer.heard.pop() == expected, "not what was sent"
    return await echoed(peer, [], [])


# Each case: its number, and what is done with a connection.
CASES = {}


def case(number, play, *arguments, **options):
    assert number not in CASES, number
    CASES[number] = lambda peer: play(peer, *arguments, **options)


HELLO = frame(TEXT, b"Hello, world!")
HELLO_BACK = [message(b"Hello, world!")]
NOISE = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"

# 1: framing.
for family, opcode, piece in ((1, TEXT, b"*"), (2, BINARY, b"\xfe")):
    for number, (size, chop) in enumerate([*((size, None) for size in (0, 125, 126, 127, 128, 65535, 65536)), (65536, 997)], 1):
        back = [message(piece * size, opcode == BINARY)]
        case(f"1.{family}.{number}", echoed, [frame(opcode, piece * size)], back, chop=chop)

# 2: pings and pongs.
for number, payload, chop in ((1, b"", None), (2, b"Hello, world!", None), (3, NOISE, None), (4, b"\xfe" * 125, None), (6, b"\xfe" * 125, 1)):
    case(f"2.{number}", echoed, [frame(PING, payload)], [pong(payload)], chop=chop)
case("2.5", failed, [frame(PING, b"\xfe" * 126)], [])
case("2.7", closing, [frame(PONG), close(NORMAL)], [NORMAL])
case("2.8", closing, [frame(PONG, b"unsolicited pong payload"), close(NORMAL)], [NORMAL])
case("2.9", echoed, [frame(PONG, b"unsolicited pong payload"), frame(PING, b"ping payload")], [pong(b"ping payload")])
TEN = [b"payload-%d" % number for number in range(10)]
for number, chop in ((10, None), (11, 1)):
    case(f"2.{number}", echoed, [frame(PING, payload) for payload in TEN], [pong(payload) for payload in TEN], chop=chop)

# 3: reserved bits.
case("3.1", failed, [frame(TEXT, b"Hello, world!", rsv=1)], [])
for number, rsv, how in ((2, 2, {}), (3, 3, {"frames": True}), (4, 4, {"chop": 1})):
    case(f"3.{number}", failed, [HELLO, frame(TEXT, b"Hello, world!", rsv=rsv), frame(PING)], HELLO_BACK, **how)
case("3.5", failed, [frame(BINARY, NOISE, rsv=5)], [])
case("3.6", failed, [frame(PING, b"Hello, world!", rsv=6)], [])
case("3.7", failed, [frame(CLOSE, rsv=7)], [])

# 4: opcodes.
for family, first in ((1, 3), (2, 11)):
    case(f"4.{family}.1", failed, [frame(first)], [])
    case(f"4.{family}.2", failed, [frame(first + 1, b"reserved opcode payload")], [])
    for number, payload, chop in ((3, b"", None), (4, b"Hello, world!", None), (5, b"Hello, world!", 1)):
        sent = [HELLO, frame(first + number - 1, payload), frame(PING)]
        case(f"4.{family}.{number}", failed, sent, HELLO_BACK, chop=chop)

# 5: fragmentation. All in one, a write for each frame, a write for each byte.
HOW = ({}, {"frames": True}, {"chop": 1})
FRAGMENT = [b"fragment%d" % number for number in range(6)]


def fragment(number, opcode=CONT, fin=False):
    return frame(opcode, FRAGMENT[number], fin=fin)


case("5.1", failed, [fragment(1, PING), fragment(2, fin=True)], [])
case("5.2", failed, [fragment(1, PONG), fragment(2, fin=True)], [])
TWO = [fragment(1, TEXT), fragment(2, fin=True)]
TWO_BACK = message(b"fragment1fragment2")
for number, how in enumerate(HOW):
    case(f"5.{3 + number}", echoed, TWO, [TWO_BACK], **how)
    between = [TWO[0], frame(PING, b"ping payload"), TWO[1]]
    case(f"5.{6 + number}", echoed, between, [pong(b"ping payload"), TWO_BACK], **how)
    for start, fin in ((9, True), (12, False)):
        case(f"5.{start + number}", failed, [frame(CONT, b"non-continuation payload", fin=fin), HELLO], [], **how)
case("5.15", failed, [*TWO, fragment(3), fragment(4, TEXT, fin=True)], [TWO_BACK])
for number, fin in ((16, False), (17, True)):
    case(f"5.{number}", failed, [fragment(1, fin=fin), fragment(2, TEXT), fragment(3, fin=True)] * 2, [])
case("5.18", failed, [fragment(1, TEXT), fragment(2, TEXT, fin=True)], [])
PINGED = [
    fragment(1, TEXT),
    fragment(2),
    frame(PING, b"pongme 1!"),
    fragment(3),
    fragment(4),
    frame(PING, b"pongme 2!"),
    fragment(5, fin=True),
]
case("5.19", halting, PINGED)
case("5.20", halting, PINGED)

# 6: UTF-8.
case("6.1.1", echoed, [frame(TEXT)], [message(b"")])
case("6.1.2", echoed, [frame(TEXT, fin=False), frame(CONT, fin=False), frame(CONT)], [message(b"")])
MIDDLE = b"middle frame payload"
case("6.1.3", echoed, [frame(TEXT, fin=False), frame(CONT, MIDDLE, fin=False), frame(CONT)], [message(MIDDLE)])
GREETING = "Hello-µ@ßöäüàá-UTF-8!!".encode()
KOSME = b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5"
case("6.2.1", echoed, [frame(TEXT, GREETING)], [message(GREETING)])
HALF = len("Hello-µ@ßöä".encode())
case("6.2.2", echoed, [frame(TEXT, GREETING[:HALF], fin=False), frame(CONT, GREETING[HALF:])], [message(GREETING)])
case("6.2.3", echoed, [*parts(TEXT, GREETING, 1)], [message(GREETING)])
case("6.2.4", echoed, [*parts(TEXT, KOSME, 1)], [message(KOSME)])
SURROGATE = KOSME + b"\xed\xa0\x80" + b"edited"
case("6.3.1", failed, [frame(TEXT, SURROGATE)], [], [INVALID])
case("6.3.2", failed, [*parts(TEXT, SURROGATE, 1)], [], [INVALID])
BEYOND = KOSME + b"\xf4\x90\x80\x80" + b"edited"
for number, (first, second) in enumerate(((11, 15), (12, 13)), 1):
    pieces = BEYOND[:first], BEYOND[first:second], BEYOND[second:]
    framed = [frame(TEXT, pieces[0], fin=False), frame(CONT, pieces[1], fin=False), frame(CONT, pieces[2])]
    case(f"6.4.{number}", fast, *framed)
    whole = frame(TEXT, BEYOND)
    head = len(whole) - len(BEYOND)
    chopped = whole[: head + first], whole[head + first : head + second], whole[head + second :]
    case(f"6.4.{number + 2}", fast, *chopped)


def lonely(first, last):
    return b"".join(bytes([byte, 0x20]) for byte in range(first, last))


MISSING = [b"\xc0", b"\xe0\x80", b"\xf0\x80\x80", b"\xf8\x80\x80\x80", b"\xfc\x80\x80\x80\x80"]
MISSING += [b"\xdf", b"\xef\xbf", b"\xf7\xbf\xbf", b"\xfb\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf"]
SURROGATES = [chr(code).encode(errors="surrogatepass") for code in (0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF)]
NO_CHARACTERS = [chr(plane << 16 | low).encode() for plane in range(17) for low in (0xFFFE, 0xFFFF)]
# After Markus Kuhn's test of decoders; Python tells what is valid.
SEQUENCES = [
    [b"hello\x24world", b"hello\xc2\xa2world", b"hello\xe2\x82\xacworld", b"hello\xf0\xa4\xad\xa2world", KOSME],
    [KOSME[:length] for length in range(1, len(KOSME) + 1)],
    [b"\x00", b"\xc2\x80", b"\xe0\xa0\x80", b"\xf0\x90\x80\x80"],
    [b"\xf8\x88\x80\x80\x80", b"\xfc\x84\x80\x80\x80\x80"],
    [b"\x7f", b"\xdf\xbf", b"\xef\xbf\xbf", b"\xf4\x8f\xbf\xbf"],
    [b"\xf7\xbf\xbf\xbf", b"\xfb\xbf\xbf\xbf\xbf", b"\xfd\xbf\xbf\xbf\xbf\xbf"],
    [b"\xed\x9f\xbf", b"\xee\x80\x80", b"\xef\xbf\xbd", b"\xf4\x8f\xbf\xbf", b"\xf4\x90\x80\x80"],
    [b"\x80", b"\xbf", *((b"\x80\xbf" * 3)[:length] for length in range(2, 7)), bytes(range(0x80, 0xBF))],
    [lonely(0xC0, 0xDF), lonely(0xE0, 0xEF), lonely(0xF0, 0xF7), lonely(0xF8, 0xFB), lonely(0xFC, 0xFD)],
    MISSING,
    [b"".join(MISSING)],
    [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"],
    [b"\xc0\xaf", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xf8\x80\x80\x80\xaf", b"\xfc\x80\x80\x80\x80\xaf"],
    [b"\xc1\xbf", b"\xe0\x9f\xbf", b"\xf0\x8f\xbf\xbf", b"\xf8\x87\xbf\xbf\xbf", b"\xfc\x83\xbf\xbf\xbf\xbf"],
    [b"\xc0\x80", b"\xe0\x80\x80", b"\xf0\x80\x80\x80", b"\xf8\x80\x80\x80\x80", b"\xfc\x80\x80\x80\x80\x80"],
    SURROGATES,
    [high + low for high, low in itertools.product(SURROGATES[:4], (SURROGATES[4], SURROGATES[6]))],
    NO_CHARACTERS,
    [chr(code).encode() for code in range(0xFFF9, 0x10000)],
]


def is_text(sequence):
    try:
        sequence.decode()
    except UnicodeDecodeError:
        return False
    return True


for family, sequences in enumerate(SEQUENCES, 5):
    for number, sequence in enumerate(sequences, 1):
        if is_text(sequence):
            case(f"6.{family}.{number}", echoed, [frame(TEXT, sequence)], [message(sequence)])
        else:
            case(f"6.{family}.{number}", failed, [frame(TEXT, sequence)], [], [INVALID])

# 7: the end.
case("7.1.1", echoed, [frame(TEXT, b"Hello World!")], [message(b"Hello World!")])
case("7.1.2", closing, [close(NORMAL), frame(CLOSE)], [NORMAL])
case("7.1.3", closing, [close(NORMAL), frame(PING)], [NORMAL])
case("7.1.4", closing, [close(NORMAL), frame(TEXT, b"Hello World!")], [NORMAL])
case("7.1.5", closing, [fragment(1, TEXT), close(NORMAL), fragment(2, fin=True)], [NORMAL])
LONG = frame(TEXT, b"BAsd7&jh23", length=256 << 10)
case("7.1.6", anyhow, [LONG, frame(TEXT, b"Hello World!"), close(NORMAL), frame(PING)])
case("7.3.1", closing, [close()], [NORMAL, None])
case("7.3.2", closing, [frame(CLOSE, b"a")], [PROTOCOL], silent_too=True)
case("7.3.3", closing, [close(NORMAL)], [NORMAL])
case("7.3.4", closing, [close(NORMAL, b"Hello World!")], [NORMAL])
case("7.3.5", closing, [close(NORMAL, b"*" * 123)], [NORMAL])
case("7.3.6", closing, [close(NORMAL, b"*" * 124)], [PROTOCOL], silent_too=True)
case("7.5.1", closing, [close(NORMAL, SURROGATE)], [PROTOCOL, INVALID], silent_too=True)
for number, code in enumerate((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999), 1):
    case(f"7.7.{number}", closing, [close(code)], [NORMAL, code])
for number, code in enumerate((0, 999, 1004, 1005, 1006, 1016, 1100, 2000, 2999), 1):
    case(f"7.9.{number}", closing, [close(code)], [PROTOCOL], silent_too=True)
case("7.13.1", anyhow, [close(5000)])
case("7.13.2", anyhow, [close(65535)])

# 9: large messages, and many.
MEG = 1 << 20


async def large(peer, opcode, piece, size, fragment=None, chop=None):
    # Made when it is its turn: they are many megabytes together.
    payload = (piece * (size // len(piece) + 1))[:size]
    sent = [b"".join(parts(opcode, payload, fragment or size))]
    return await echoed(peer, sent, [message(payload, opcode == BINARY)], chop=chop)


for family, opcode, piece, star in ((1, TEXT, b"BAsd7&jh23", b"*"), (2, BINARY, b"\x00\xfe\x23\xfa\xf0", b"\xfe")):
    for number, size in enumerate((MEG // 16, MEG // 4, MEG, 4 * MEG, 8 * MEG, 16 * MEG), 1):
        case(f"9.{family}.{number}", large, opcode, piece, size)
    for number in range(9):
        case(f"9.{2 + family}.{number + 1}", large, opcode, star, 4 * MEG, fragment=64 << 2 * number)
    for number in range(6):
        case(f"9.{4 + family}.{number + 1}", large, opcode, piece, MEG, chop=64 << number)
    for number, size in enumerate((0, 16, 64, 256, 1024, 4096), 1):
        case(f"9.{6 + family}.{number}", trips, opcode, star, size)

# 10: what the suite's own library cuts into frames of 1,300 bytes.
case("10.1.1", echoed, [*parts(TEXT, b"*" * 65536, 1300)], [message(b"*" * 65536)])


async def judge(url, number, play, room):
    async with room:
        peer = await Peer.open(url)
        try:
            return await asyncio.wait_for(play(peer), PATIENCE)
        except Exception as error:
            print(f"{number}: {error!r}", file=sys.stderr)
            if not isinstance(error, AssertionError):
                traceback.print_exc()
            return "FAILED"
        finally:
            peer.writer.close()


async def main():
    small, big = asyncio.Semaphore(24), asyncio.Semaphore(2)
    playing = {
        number: asyncio.ensure_future(judge(URL, number, play, big if number.startswith("9.") else small))
        for number, play in CASES.items()
    }
    verdicts = collections.defaultdict(list)
    for number, played in playing.items():
        verdicts[await played].append(number)
    print(json.dumps(verdicts))


URL, WAIT = sys.argv[1], float(sys.argv[2])
asyncio.run(main())
