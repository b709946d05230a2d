"""A line on the terminal for every kernel that was checked, with an estimate of what is left."""

from __future__ import annotations

import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pytest_sparsity.plugin.run import Run
from pytest_sparsity.plugin.sent import Sent
from pytest_sparsity.plugin.sinks.sink import Sink
from pytest_sparsity.plugin.terminal import say

_TEST = re.compile(r"test_sparsity_kernels\.py::test_kernel\[(.+)-(\w+)\]")

#: A kernel's id and the name of a check.
Pair = tuple[str, str]


def bundled_checks(ids: Iterable[str]) -> list[Pair]:
    """Kernel and check of every test of the bundled suite among these ids."""
    return [(m[1], m[2]) for m in map(_TEST.search, ids) if m is not None]


class KernelLines(Sink):
    """Shows how far the bundled suite of kernels is."""

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self._expected: frozenset[Pair] = frozenset()
        self._done: dict[Pair, Mapping[str, Any]] = {}
        self._usual: Mapping[Pair, float] = {}  # seconds
        self._started = 0.0

    def expect(self, cells: int, claims: Sequence[tuple[str, str]], checks: Sequence[Pair]) -> None:
        """Learn which checks will run, and what each took in an earlier run."""
        if not checks or self._expected:
            return
        from pytest_sparsity.reporting import kernels

        self._expected = frozenset(checks)
        lines = kernels.stored(self.settings.report)
        self._usual = {pair: float(line.get("seconds", 0)) for pair, line in lines.items()}
        self._started = time.monotonic()

    def receive(self, sent: Sent) -> None:
        """Print the line of a kernel with its last check."""
        if not bundled_checks([sent.report.nodeid]):
            return
        for check in sent.checks:
            self._done[check["kernel"], check["check"]] = check
            if self.run.config.get_verbosity() >= 0:
                self._show(check["kernel"])

    def _show(self, kernel: str) -> None:
        own = {pair for pair in self._expected if pair[0] == kernel}
        if not own <= self._done.keys():
            return
        from pytest_sparsity.reporting.kernel_table import line
        from pytest_sparsity.reporting.live import progress_line

        told = line(kernel, [self._done[pair] for pair in own])
        count, total = len(self._done), len(self._expected)
        say(self.run.config, progress_line(told, count, total, self._left()))

    def _left(self) -> float | None:
        """Seconds, if what is left takes so much longer or less than usual as what is done."""
        ran = {pair: check for pair, check in self._done.items() if not check["reused"]}
        if not ran:
            return None
        mean = sum(check["seconds"] for check in ran.values()) / len(ran)
        usual = Counter[bool]()
        for pair in self._expected:
            if pair in ran or pair not in self._done:
                usual[pair in ran] += self._usual.get(pair, mean)
        elapsed = time.monotonic() - self._started
        return elapsed * usual[False] / usual[True] if usual[True] else None
