"""``python -m rgun_async``."""

import sys

from . import _native

if __name__ == "__main__":
    # A later upgrade starts this again: by the interpreter, not by this file.
    command = [sys.executable, "-m", "rgun_async", *sys.argv[1:]]
    sys.exit(_native.main(["rgun-async", *sys.argv[1:]], command))
