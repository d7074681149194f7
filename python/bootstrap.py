# What the interpreter runs in the place of the rgun-async binary:
#   python -c BOOTSTRAP VERSION LIBRARY PROGRAM ARGUMENT...
# Any Python 3 has to understand this text, to say that it is too old.
import sys


def fail(message):
    sys.stderr.write("Error: " + message + "\n")
    raise SystemExit(1)


def load(version, library):
    if library:
        # What was built with the binary, and not what may be installed of another day.
        from importlib.machinery import ExtensionFileLoader, ModuleSpec

        name = "rgun_async._native"
        loader = ExtensionFileLoader(name, library)
        spec = ModuleSpec(name, loader, origin=library)
        try:
            module = loader.create_module(spec)
            loader.exec_module(module)
        except ImportError as error:
            fail("cannot load %s: %s" % (library, error))
        sys.modules[name] = module
        return module
    try:
        from rgun_async import _native as module
    except ImportError:
        fail(
            "the Python half of rgun-async is missing: there is no shared library beside the "
            "program, and %s has no package rgun-async (pip install rgun-async)" % sys.executable
        )
    if module.__version__ != version:
        fail(
            "this is rgun-async %s, but the package in %s is %s"
            % (version, sys.executable, module.__version__)
        )
    return module


def run():
    found = "%s %d.%d (%s)" % (
        sys.implementation.name,
        sys.version_info[0],
        sys.version_info[1],
        sys.executable,
    )
    if sys.version_info < (3, 10):
        fail("a Python app needs Python 3.10 or later, this is " + found)
    if sys.implementation.name != "cpython":
        fail("a Python app needs CPython, this is " + found)
    # The current directory is not to hide a module of the library from us; the app's path is set later.
    if sys.path and not sys.path[0]:
        del sys.path[0]
    version, library = sys.argv[1:3]
    del sys.argv[:3]
    sys.exit(load(version, library).main(sys.argv, sys.argv))


run()
