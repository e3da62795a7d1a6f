"""Processes of a pool end with the one that began them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

POOL = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from mrnet.processes import begin_worker

if __name__ == "__main__":
    pool = ProcessPoolExecutor(1, get_context("spawn"), begin_worker)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600).result()
"""


def alive(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc").exists(), reason="looks at /proc")
@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_worker_ends_with_its_parent(tmp_path: Path, ending: signal.Signals) -> None:
    script = tmp_path / "pool.py"
    script.write_text(POOL)
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        try:
            os.kill(worker, signal.SIGINT)  # which is not for it
            time.sleep(0.2)
            assert alive(worker)
            parent.send_signal(ending)
            parent.wait(300)
            until = time.monotonic() + 30
            while alive(worker) and time.monotonic() < until:
                time.sleep(0.05)
            assert not alive(worker)
        finally:
            if alive(worker):
                os.kill(worker, signal.SIGKILL)
