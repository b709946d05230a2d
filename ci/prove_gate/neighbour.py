"""A noisy neighbour: a process that streams memory a third of the time, in bouts of seconds."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

#: Mean seconds of a bout, and of the rest after it; both vary as those of a Poisson process do.
BOUT, REST = 2.0, 4.0
_ELEMENTS = 16 << 20


@contextmanager
def noisy(seed: int) -> Iterator[None]:
    """Run the noisy process while the ``with`` block runs."""
    process = subprocess.Popen([sys.executable, __file__, str(seed)], stdin=subprocess.PIPE)
    try:
        yield
    finally:
        process.kill()
        process.wait()


def disturb(seed: int) -> None:
    """Stream memory and rest in turn, until the process is killed."""
    import numpy as np

    drawn = random.Random(seed)
    a, b = np.ones((2, _ELEMENTS), np.float32)
    while True:
        until = time.monotonic() + drawn.expovariate(1 / BOUT)
        while time.monotonic() < until:
            np.add(a, b, out=a)
        time.sleep(drawn.expovariate(1 / REST))


if __name__ == "__main__":
    disturb(int(sys.argv[1]))
