"""``python -m rgun_async``."""

import sys

from . import _again, _native

if __name__ == "__main__":
    sys.exit(_native.main(["rgun-async", *sys.argv[1:]], _again()))
