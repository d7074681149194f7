"""Hangs while a module is being imported: `HALF` is loaded by half then, as it imports `HANG`, which never comes."""

import os
import sys
import time

HALF, HANG = os.environ["HALF"], os.environ["HANG"]


def forget(name):
    package, _, attribute = name.rpartition(".")
    if package in sys.modules:
        vars(sys.modules[package]).pop(attribute, None)
    sys.modules.pop(name, None)


class Never:
    def find_spec(self, name, path=None, target=None):
        if name == HALF:
            forget(HANG)
        if name == HANG and HALF in sys.modules:
            print("half imported", HALF, "by", os.getpid(), file=sys.stderr, flush=True)
            while True:
                time.sleep(0.01)


forget(HALF)
sys.meta_path.insert(0, Never())
__import__(HALF)
