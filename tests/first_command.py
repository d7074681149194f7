"""The README's first command, as a stranger types it, on a free port: does the sample app answer?

Exit 0 when it does and the server then stops by itself on SIGTERM; 1 with its log otherwise.
"""

import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request

COMMAND = (
    "cargo run --release -- --chdir examples/python -w 9 --worker-connections 1000 app"
).split()


def main() -> int:
    server = subprocess.Popen(
        [*COMMAND, "-b", "127.0.0.1:0"],
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    log: list[str] = []
    address: list[str] = []
    found = threading.Event()

    def read() -> None:
        for line in server.stderr:
            log.append(line)
            if match := re.search(r"Listening at: (http://\S+)", line):
                address.append(match[1])
                found.set()
        found.set()

    threading.Thread(target=read, daemon=True).start()
    try:
        found.wait(120)
        if not address:
            raise RuntimeError("no `Listening at` line came")
        deadline = time.monotonic() + 30
        for _ in range(20):
            with urllib.request.urlopen(address[0], timeout=10) as answer:
                if answer.status != 200 or not answer.read():
                    raise RuntimeError(f"the sample app answered {answer.status}")
            if time.monotonic() > deadline:
                raise RuntimeError("20 requests took more than 30 s")
        server.send_signal(signal.SIGTERM)
        if (status := server.wait(40)) != 0:
            raise RuntimeError(f"exit status {status} after SIGTERM")
    except Exception as error:
        print("".join(log), file=sys.stderr)
        print(f"first command: {error!r}", file=sys.stderr)
        return 1
    finally:
        try:
            os.killpg(server.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    print(f"{' '.join(COMMAND)}\n  answered 20 requests and stopped on SIGTERM with exit 0")
    return 0


if __name__ == "__main__":
    sys.exit(main())
