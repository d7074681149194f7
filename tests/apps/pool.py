"""A database connection that is opened at import, and belongs to the process that opened it."""

import os
import sqlite3

PATH = os.environ["DATABASE"]
connection = sqlite3.connect(PATH, check_same_thread=False)
owner = os.getpid()


def forget():
    """Opens one of this process; the inherited one stays open, as it is another's."""
    global connection, owner
    connection, owner = sqlite3.connect(PATH, check_same_thread=False), os.getpid()


def close():
    connection.close()


def app(environ, start_response):
    with connection:
        connection.execute("create table if not exists hits (pid)")
        connection.execute("insert into hits values (?)", (owner,))
    body = f"{owner} {os.getpid()}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
