"""What the programs of Python share: see ../clients.py for what they are told and what they say."""

import os
import sys
import traceback

ENDPOINTS = [(e.rpartition(":")[0], int(e.rpartition(":")[2])) for e in os.environ["ENDPOINTS"].split(",")]
CA = os.environ.get("CA")
USER, PASSWORD = os.environ.get("USER") if CA else None, os.environ.get("PASSWORD") if CA else None


def equal(got, want):
    if got != want:
        raise AssertionError("got %.300r, want %.300r" % (got, want))


def raises(kinds, call, *args, **named):
    try:
        call(*args, **named)
    except kinds as error:
        return error
    raise AssertionError("no error")


def passed(name):
    print("ok " + name, flush=True)


def failed(name):
    """Of the error that is being handled."""
    kind, error, trace = sys.exc_info()
    print("FAILED %s: line %d: %s: %s" % (name, traceback.extract_tb(trace)[-1].lineno, kind.__name__,
                                          " ".join(str(error).split())[:500]), flush=True)
    traceback.print_exc()


def check(name, call, *args):
    try:
        call(*args)
    except Exception:
        failed(name)
    else:
        passed(name)


def order(text):
    """Have a member killed or started."""
    print(text, flush=True)
    equal(sys.stdin.readline(), "done\n")
