"""rgun-async: a pre-fork application server for WSGI and ASGI apps."""

from ._native import __version__

__all__ = ["__version__", "main"]


def main():
    """The console script: serves what the command line says, and ends with Gunicorn's exit codes."""
    import sys

    from . import _native

    sys.exit(_native.main(sys.argv, _again()))


def _again():
    """The command that starts this program anew, for an upgrade."""
    import os
    import sys

    # What the interpreter was given: its own options, then a script's path or `-m` and a name, then our arguments.
    given = sys.orig_argv[1:]
    script = len(given) > 0 and given[0] == sys.argv[0]
    if script and os.access(given[0], os.X_OK):
        # By its first line it finds the interpreter of that day.
        return given
    return [sys.executable, *given]
