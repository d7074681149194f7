"""Asks the Thrift service at HOST PORT for some sums."""

import sys

from calculator import Calculator
from thrift.protocol import TBinaryProtocol
from thrift.transport import TSocket, TTransport

transport = TTransport.TBufferedTransport(TSocket.TSocket(sys.argv[1], int(sys.argv[2])))
client = Calculator.Client(TBinaryProtocol.TBinaryProtocol(transport))
transport.open()
print(sum(client.add(number, 1) for number in range(100)))
transport.close()
