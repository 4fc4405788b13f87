"""One thread of a process stands still, while the others go on.

    with held.thread(tid) as h:
        ... h.gone()    # True when the thread has ended all the same

It is traced, and stopped as a debugger stops it (PTRACE_SEIZE, PTRACE_INTERRUPT): to the process that is no signal.
Needs the right to trace it, and that nobody else does. At the end, or when this program ends, it goes on.
"""

import contextlib
import ctypes
import os

PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000  # threads, too

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
libc.ptrace.restype = ctypes.c_long


def ptrace(request, tid):
    if libc.ptrace(request, tid, None, None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


class Held:
    def __init__(self, tid):
        self.tid, self.ended = tid, False
        ptrace(PTRACE_SEIZE, tid)
        ptrace(PTRACE_INTERRUPT, tid)
        self._wait(0)

    def _wait(self, flags):
        """Whoever traces a thread has to take notice of its end before its process is gone."""
        try:
            seen, status = os.waitpid(self.tid, WALL | flags)
        except ChildProcessError:
            self.ended = True
            return
        if seen == self.tid and not os.WIFSTOPPED(status):
            self.ended = True

    def gone(self):
        if not self.ended:
            self._wait(os.WNOHANG)
        return self.ended

    def release(self):
        if not self.gone():
            with contextlib.suppress(OSError):
                ptrace(PTRACE_DETACH, self.tid)


@contextlib.contextmanager
def thread(tid):
    h = Held(tid)
    try:
        yield h
    finally:
        h.release()


def states(pid):
    """{tid: "S"}, as in /proc: t is one that is held."""
    found = {}
    for tid in os.listdir("/proc/%d/task" % pid):
        with open("/proc/%d/task/%s/stat" % (pid, tid), encoding="ascii", errors="replace") as f:
            found[int(tid)] = f.read().rsplit(")", 1)[1].split()[0]
    return found
