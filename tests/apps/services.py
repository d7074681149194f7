"""TCP services for the tests."""

import os


async def echo(reader, writer):
    """Each line with the worker's pid and the peer before it."""
    peer = writer.get_extra_info("peername")
    while line := await reader.readline():
        writer.write(f"{os.getpid()} {peer[0] if peer else ''} ".encode() + line)
        await writer.drain()
    if writer.get_extra_info("draining").is_set():
        writer.write(b"goodbye\n")


async def broken(reader, writer):
    await reader.readline()
    raise ValueError("a line too much")


def echo_blocking(socket, address):
    """The same for gevent."""
    buffer = b""
    while data := socket.recv(4096):
        buffer += data
        while b"\n" in buffer:
            line, _, buffer = buffer.partition(b"\n")
            peer = address[0] if address else ""
            socket.sendall(f"{os.getpid()} {peer} ".encode() + line + b"\n")
    socket.sendall(b"goodbye\n")


def broken_blocking(socket, address):
    socket.recv(4096)
    raise ValueError("a line too much")


def calculator(socket, address):
    """A service of Apache Thrift's, by its own protocol and transport."""
    from calculator import Calculator
    from thrift.protocol import TBinaryProtocol
    from thrift.transport import TSocket, TTransport

    class Handler:
        def add(self, a, b):
            return a + b

    connection = TSocket.TSocket()
    connection.setHandle(socket)
    transport = TTransport.TBufferedTransport(connection)
    protocol = TBinaryProtocol.TBinaryProtocol(transport)
    processor = Calculator.Processor(Handler())
    try:
        while True:
            processor.process(protocol, protocol)
    except TTransport.TTransportException:
        # The client has left, or the worker is about to.
        pass


async def stuck(reader, writer):
    """Holds the whole worker up."""
    await reader.readline()
    while True:
        pass


async def backend(reader, writer):
    """One whose own connection to somebody else is refused."""
    await reader.readline()
    raise ConnectionRefusedError("nobody is there")
