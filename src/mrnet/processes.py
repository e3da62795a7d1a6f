"""Processes that work for another one of ours."""

import os
import signal
import threading
from multiprocessing import parent_process


def begin_worker() -> None:
    """What a process of a pool does first, in its initializer.

    Ctrl-C reaches all processes of a terminal: it is left to the one that began this one, which then ends the others.
    However that one ends, killed in particular, this one ends with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)
