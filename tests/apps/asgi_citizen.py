"""What apps do with asyncio besides serving."""

import asyncio
import contextvars
import os
import signal
import sys
import threading

VARIABLE = contextvars.ContextVar("VARIABLE")


async def to_thread():
    VARIABLE.set("carried")
    ident, value = await asyncio.to_thread(lambda: (threading.get_ident(), VARIABLE.get()))
    assert ident != threading.get_ident() and value == "carried"
    many = await asyncio.gather(*(asyncio.to_thread(pow, 2, n) for n in range(40)))
    assert many == [2**n for n in range(40)]


async def subprocess():
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", "print(input())",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )
    out, _ = await process.communicate(b"piped\n")
    assert (out, process.returncode) == (b"piped\n", 0), (out, process.returncode)
    shell = await asyncio.create_subprocess_shell("exit 7")
    assert await shell.wait() == 7


async def signals():
    loop = asyncio.get_running_loop()
    assert threading.current_thread() is threading.main_thread()
    heard = asyncio.Event()
    loop.add_signal_handler(signal.SIGUSR2, heard.set)
    try:
        os.kill(os.getpid(), signal.SIGUSR2)
        await asyncio.wait_for(heard.wait(), 20)
    finally:
        loop.remove_signal_handler(signal.SIGUSR2)


async def sockets():
    async def serve(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=1 << 20)
    port = server.sockets[0].getsockname()[1]

    async def talk(number):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 20)
        for turn in range(20):
            writer.write(b"hello %d %d\n" % (number, turn))
            assert await reader.readline() == b"HELLO %d %d\n" % (number, turn)
        # More than one read's worth.
        writer.write(b"x" * 300_000 + b"\n")
        assert len(await reader.readuntil(b"\n")) == 300_001
        writer.close()
        await writer.wait_closed()

    server.close()


async def timeouts():
    loop = asyncio.get_running_loop()
    begin = loop.time()
    try:
        if sys.version_info >= (3, 11):
            async with asyncio.timeout(0.05):
                await asyncio.sleep(10)
        else:
            await asyncio.wait_for(asyncio.sleep(10), 0.05)
    except asyncio.TimeoutError:
        pass
    else:
        raise AssertionError("no timeout")
    assert 0.045 < loop.time() - begin < 20


async def later():
    loop = asyncio.get_running_loop()
    order, done = [], asyncio.Event()
    begin = loop.time()
    loop.call_at(begin + 0.06, lambda: (order.append("late"), done.set()))
    loop.call_at(begin + 0.02, order.append, "early")
    loop.call_soon(order.append, "soon")
    cancelled = loop.call_later(0.03, order.append, "never")
    cancelled.cancel()
    await asyncio.wait_for(done.wait(), 20)
    # A slow machine may be late for what is soon, when what is early is due as well.
    assert sorted(order) == ["early", "late", "soon"] and order[-1] == "late", order
    assert loop.time() - begin > 0.055


async def gathered():
    begin = asyncio.get_running_loop().time()
    await asyncio.gather(*(asyncio.sleep(0.1) for _ in range(200)))
    assert asyncio.get_running_loop().time() - begin < 20
    locks, queue = asyncio.Lock(), asyncio.Queue(1)

    async def put():
        for number in range(50):
            async with locks:
                await queue.put(number)

    async def get():
        return [await queue.get() for _ in range(50)]

    _, got = await asyncio.gather(put(), get())
    assert got == list(range(50))


async def threadsafe():
    """A thread of the app's calls into the loop while nothing else goes on."""
    loop = asyncio.get_running_loop()
    future = loop.create_future()

    def work():
        loop.call_soon_threadsafe(future.set_result, "called")

    threading.Timer(0.05, work).start()
    assert await asyncio.wait_for(future, 20) == "called"

    async def coroutine():
        return "run"

    run = await asyncio.to_thread(
        lambda: asyncio.run_coroutine_threadsafe(coroutine(), loop).result(20)
    )
    assert run == "run"


async def forked():
    """A process of the app's, forked, serves nothing."""
    pid = os.fork()
    if pid == 0:
        try:
            asyncio.run(asyncio.sleep(0.01))
            os._exit(5)
        finally:
            os._exit(6)
    _, status = await asyncio.to_thread(os.waitpid, pid, 0)
    assert os.waitstatus_to_exitcode(status) == 5


async def unseen():
    """A task that fails and that nobody waits for."""

    async def fails():
        raise ValueError("nobody waited for this")

    asyncio.create_task(fails())
    await asyncio.sleep(0.01)


async def debug():
    loop = asyncio.get_running_loop()
    before = loop.get_debug()
    loop.set_debug(True)
    try:
        await asyncio.sleep(0.01)
        await to_thread()
        await later()
    finally:
        loop.set_debug(before)


async def nested():
    """An app that finds a way to run the loop within itself."""
    loop = asyncio.get_running_loop()
    assert loop.is_running()
    try:
        loop.run_until_complete(asyncio.sleep(0))
    except RuntimeError:
        return
    raise AssertionError("it ran")


async def forced():
    """The same by force, as nest_asyncio does it: within the first step, and after it."""
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    if not hasattr(loop, "_run_once"):
        return
    for _ in range(2):
        inner = asyncio.ensure_future(asyncio.to_thread(lambda: "inner"))
        asyncio.tasks._leave_task(loop, task)
        try:
            while not inner.done():
                loop._run_once()
        finally:
            asyncio.tasks._enter_task(loop, task)
        assert inner.result() == "inner"
        await asyncio.sleep(0.01)


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await globals()[scope["path"].strip("/")]()
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": b"behaves"})
