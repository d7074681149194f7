"""What the chaos test asks for, as examples/axum.rs answers it. Who has loaded it writes that down, for servers that do not tell."""

import os
import time

with open(os.environ["CHAOS_LOADED"], "a") as loaded:
    loaded.write(f"{os.getpid()}\n")


def app(environ, start_response):
    _, kind, value = environ["PATH_INFO"].split("/")
    if kind == "sleep":
        time.sleep(int(value) / 1000)
        body = f"slept {value} ms".encode()
    else:
        body = f"user {value}".encode()
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
