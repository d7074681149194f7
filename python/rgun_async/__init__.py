"""rgun-async: a pre-fork application server for WSGI apps."""

from ._native import __version__

__all__ = ["__version__", "main"]


def main():
    """The console script: serves what the command line says, and ends with Gunicorn's exit codes."""
    import sys

    from . import _native

    sys.exit(_native.main(sys.argv, sys.argv))
