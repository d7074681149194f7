"""TCP services in Python: connections handed to asyncio's streams, or to functions that take gevent's sockets."""

import fcntl
import inspect
import socket
import sys
import termios
import traceback

# A drain waits so many seconds for what is on its way, and then ends the input of those that wait for more.
SOON = 0.15
# What a client that is gone, or does not read for so long that the kernel gives it up, raises in who serves it.
BROKEN = (ConnectionError, EOFError, TimeoutError)


class Connections:
    """The connections of all services of a worker."""

    def __init__(self):
        self.open = set()
        self.draining = False

    def drain(self):
        """The worker leaves: input ends, so that who waits for it comes to an end; answers are still sent."""
        self.draining = True
        self.later(self.end_inputs)

    def end_inputs(self):
        for sock in tuple(self.open):
            end_input(sock)

    def adopt(self, fd):
        sock = socket.socket(fileno=fd)
        self.open.add(sock)
        if self.draining:
            self.later(end_input, sock)
        return sock


def is_coroutine_function(handle):
    return inspect.iscoroutinefunction(handle) or inspect.iscoroutinefunction(getattr(handle, "__call__", None))


def sent_on(sock):
    """How many bytes the kernel was given to send, by tcp(7)'s TCP_INFO and what is queued still; 0 where nobody counts them."""
    try:
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 128)
        queued = fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(4))
    except OSError:
        # It is a unix socket, or closed by the app.
        return 0
    # tcpi_bytes_acked; an old kernel has none.
    return int.from_bytes(info[120:128], sys.byteorder) + int.from_bytes(queued, sys.byteorder)


def end_input(sock):
    try:
        # gevent's own raises an error in who waits for input.
        getattr(sock, "_sock", sock).shutdown(socket.SHUT_RD)
    except OSError:
        # It is closed, or its client has left.
        pass


def has_left(sock):
    """Whether the client is gone. Where it is not, a connection that broke is another one of the service's."""
    try:
        return not getattr(sock, "_sock", sock).recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


class Streams(Connections):
    """For `async def handle(reader, writer)`."""

    def __init__(self, loop):
        import asyncio

        super().__init__()
        self.loop = loop
        self.asyncio = asyncio
        self.tasks = set()
        self.told = asyncio.Event()

        class Writer(asyncio.StreamWriter):
            told = self.told
            peer = None

            def get_extra_info(self, name, default=None):
                if name == "peername" and self.peer is not None:
                    return self.peer
                if name == "draining":
                    return self.told
                return super().get_extra_info(name, default)

        class Protocol(asyncio.StreamReaderProtocol):
            sock = None
            sent = 0

            def connection_lost(self, exc):
                # All that was written is with the kernel, and the socket is not closed yet.
                self.sent = sent_on(self.sock)
                super().connection_lost(exc)

        self.writer = Writer
        self.protocol = Protocol

    @staticmethod
    def misfit(handle):
        """Why this cannot be served here, if it cannot."""
        if not is_coroutine_function(handle):
            return (
                f"{handle!r} is no `async def handle(reader, writer)`, as --worker-class asgi has them; "
                "one that blocks is served by gevent"
            )

    def later(self, function, *arguments):
        self.told.set()
        self.loop.call_later(SOON, function, *arguments)

    def service(self, handle):
        def start(fd, peer, done):
            # Not at once: this is no time to run code of the app's.
            self.loop.call_soon(self.begin, handle, self.adopt(fd), peer, done)

        return start

    def begin(self, *arguments):
        task = self.loop.create_task(self.serve(*arguments))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def serve(self, handle, sock, peer, done):
        error = None
        reader = self.asyncio.StreamReader(loop=self.loop)
        protocol = self.protocol(reader, loop=self.loop)
        protocol.sock = sock
        try:
            sock.setblocking(False)
            transport, _ = await self.loop.connect_accepted_socket(lambda: protocol, sock)
            writer = self.writer(transport, protocol, reader, self.loop)
            writer.peer = peer
            try:
                await handle(reader, writer)
            except BROKEN:
                if not has_left(sock):
                    raise
            finally:
                writer.close()
                try:
                    await writer.wait_closed()
                except OSError:
                    pass
        except Exception:
            error = traceback.format_exc()
        finally:
            self.open.discard(sock)
            done(error, protocol.sent)


class Sockets(Connections):
    """For `handle(socket, address)`, in a greenlet each."""

    @staticmethod
    def misfit(handle):
        """Why this cannot be served here, if it cannot."""
        if is_coroutine_function(handle):
            return (
                f"{handle!r} is no `def handle(socket, address)`, as --worker-class gevent has them; "
                "an `async def` is served by asgi"
            )

    def later(self, function, *arguments):
        import gevent

        gevent.spawn_later(SOON, function, *arguments)

    def service(self, handle):
        import gevent

        def start(fd, peer, done):
            gevent.spawn(self.serve, handle, self.adopt(fd), peer, done)

        return start

    def serve(self, handle, sock, peer, done):
        error = None
        try:
            handle(sock, sock.getpeername() if peer is None else peer)
        except Exception as failed:
            if not (isinstance(failed, BROKEN) and has_left(sock)):
                error = traceback.format_exc()
        finally:
            self.open.discard(sock)
            sent = sent_on(sock)
            sock.close()
            done(error, sent)
