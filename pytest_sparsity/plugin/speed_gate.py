"""The ``speed_gate`` fixture: times a kernel, compares it as asked, concludes the test."""

from __future__ import annotations

import shlex
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.core.decision import Decision
from pytest_sparsity.core.errors import SparsityError, SparsityWarning
from pytest_sparsity.core.files import default_cache, locked
from pytest_sparsity.core.provenance import versions
from pytest_sparsity.core.signals import interrupt_on_sigterm
from pytest_sparsity.core.statistics.family import Evidence
from pytest_sparsity.kernels.registry import Kernel, find, registered
from pytest_sparsity.plugin import junit
from pytest_sparsity.plugin.deciding import FINE, RED, SUSPECT, level_of, number_of, tell
from pytest_sparsity.plugin.sent import GATED, TIMED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.speed.gate import baseline
from pytest_sparsity.speed.gate.against import Revision, names_kernel
from pytest_sparsity.speed.gate.kernel_timer import KernelTimer, TimedKernel
from pytest_sparsity.speed.gate.processes import Processes
from pytest_sparsity.speed.gate.result import Measured
from pytest_sparsity.speed.gate.rules import SpeedComparison
from pytest_sparsity.targets import HardwareTarget


class Timing:
    """What the speed gate of one session shares: processes, a revision, the lock of the device."""

    def __init__(self, settings: Settings, target: HardwareTarget) -> None:
        self.settings = settings
        self.target = target
        self.versions = versions()
        self.processes = Processes()
        named = settings.against is not None and not names_kernel(settings.against)
        self.revision = Revision(settings.against) if settings.against and named else None
        self.timer = KernelTimer(settings, target, self.processes, self.versions, self.revision)
        self._forget_sigterm = interrupt_on_sigterm()

    @contextmanager
    def device_to_itself(self) -> Iterator[None]:
        """Wait until no other process of ours takes times on this device."""
        folder = (self.settings.cache or default_cache()) / "locks"
        with locked(folder / f"timing-{self.target.device.replace(':', '-')}.lock"):
            yield

    def keep(self, measured: Iterable[Measured]) -> None:
        """Write what was measured before an interruption: pytest may not report that test."""
        found = {each.name: each for each in measured if each.seconds}
        with suppress(SparsityError):  # the interruption is what counts
            if found:
                baseline.add(self.settings.report / baseline.FILE, found)

    def close(self) -> None:
        """End the processes, then remove the checked-out revision that they imported."""
        self.processes.close()
        if self.revision is not None:
            self.revision.close()
        self._forget_sigterm()


class SpeedGate:
    """Holds the speed of kernels against a stored run, a revision, or another kernel."""

    def __init__(self, timing: Timing, item: pytest.Item) -> None:
        self._timing = timing
        self._settings = timing.settings
        self._item = item
        self._timed = item.stash.setdefault(TIMED, [])
        self._gated = item.stash.setdefault(GATED, [])

    def __call__(self, kernel: str | Kernel | Callable[..., Any]) -> SpeedComparison | None:
        """Time ``kernel``, and fail the test if it became slower and --sparsity-gate says so.

        What is slower by its own rule, but not so surely that it holds among all decisions of the
        run, is suspect: the test is skipped, and fails when the run is over if it holds then.

        The test is skipped if the times cannot tell, and fails in any case if the kernel is wrong
        or broken.  Without a gate it is only timed.

        Args:
            kernel: ``"op/name"``, or what was registered.

        Raises:
            SparsityError: there is no such kernel or revision, or the baseline is damaged.
        """
        __tracebackhide__ = True
        found = find(kernel)
        with self._timing.device_to_itself():
            try:
                timed = self._timing.timer.judge(found, self._level)
            except BaseException:
                self._keep()
                raise
        self._send(found, timed)
        self._conclude(timed)
        return timed.comparison

    @property
    def _level(self) -> float | None:
        """None for a decision that is the only one of its run."""
        return level_of(self._item) if number_of(self._item.session) > 1 else None

    def _tell(self, timed: TimedKernel, decision: Decision, reason: str) -> None:
        """Leave the decision for the run, if anything was compared."""
        if decision is Decision.NOT_COMPARABLE:
            return
        p = 0.0 if timed.fault or timed.comparison is None else timed.comparison.p
        if decision is Decision.REGRESSED and self._level is None:
            p = min(p, self._settings.run_error)
        state = {Decision.REGRESSED: RED, Decision.SUSPECT: SUSPECT}.get(decision, FINE)
        message = f"{timed.kernel}: {decision.value}, {reason}"
        evidence = Evidence(f"speed {self._item.nodeid} {timed.kernel}", p)
        tell(self._item, "speed", state, evidence, message=message, gated=timed.kernel)

    def _keep(self) -> None:
        if (timed := self._timing.timer.current) is not None:
            self._timing.keep(self._measured(timed, partial=True))

    def _measured(self, timed: TimedKernel, **about: Any) -> list[Measured]:
        target, versions = self._timing.target, self._timing.versions
        return timed.measured(target, versions=versions, test=self._item.nodeid, **about)

    def _send(self, kernel: Kernel, timed: TimedKernel) -> None:
        measured = self._measured(timed)
        self._timed.append(
            {
                "measured": [m.to_json() for m in measured],
                "store": timed.store,
                "registered": sorted(registered()),
            }
        )
        if timed.comparison is None and not timed.fault:
            return
        comparison = timed.comparison
        decision = Decision.REGRESSED if timed.fault or comparison is None else comparison.decision
        reason = timed.fault or (_explanation(timed, comparison) if comparison else "")
        self._tell(timed, decision, reason)
        self._gated.append(
            {
                "kind": "speed",
                "id": kernel.id,
                "decision": decision.value,
                "reason": reason,
                "figures": figures(comparison),
                "source": _source(kernel),
            }
        )
        ratio = comparison.ratio.estimate if comparison and comparison.ratio else None
        self._item.user_properties += junit.of_decision(decision, ratio=ratio)

    def _conclude(self, timed: TimedKernel) -> None:
        __tracebackhide__ = True
        if timed.fault:
            details = f"\n{timed.details.rstrip()}" if timed.details else ""
            pytest.fail(f"{timed.kernel} {timed.fault}{details}", pytrace=False)
        if timed.skipped:
            pytest.skip(timed.skipped)
        if timed.comparison is None:
            return
        text = format_comparison(timed, timed.comparison)
        if timed.comparison.decision is Decision.REGRESSED:
            if self._settings.gate == "fail":
                pytest.fail(f"{text}\n  again: {self._again()}", pytrace=False)
            warnings.warn(SparsityWarning(text), stacklevel=2)
        elif not timed.comparison.decision.decided:
            pytest.skip(text)

    def _again(self) -> str:
        settings = self._settings
        words = ["pytest", "--sparsity-sweep", "--sparsity-suite=performance"]
        path = Path(str(self._item.path)).resolve()
        if (Path(__file__).parents[1] / "suites").resolve() not in path.parents:
            words = ["pytest", str(self._item.nodeid.partition("::")[0])]
        words.append(f"--sparsity-gate={settings.gate}")
        if settings.against is not None:
            words.append(f"--sparsity-against={settings.against}")
        elif settings.baseline is not None:
            words.append(f"--sparsity-baseline={settings.baseline}")
        if settings.tolerance is not None:
            words.append(f"--sparsity-tolerance={settings.tolerance}")
        if settings.target != "cpu":
            words.append(f"--sparsity-target={settings.target}")
        if settings.profile != "quick":
            words.append(f"--sparsity-profile={settings.profile}")
        return shlex.join([*words, "-k", self._item.name])


def format_comparison(timed: TimedKernel, comparison: SpeedComparison) -> str:
    """A comparison as it is shown: one line with every figure it rests on."""
    against = f" against {timed.against}" if timed.against else ""
    return f"{timed.kernel} {comparison.decision.value}{against}: {_explanation(timed, comparison)}"


def _explanation(timed: TimedKernel, comparison: SpeedComparison) -> str:
    """The reason with every figure it rests on."""
    if comparison.ratio is None or comparison.candidate is None or comparison.baseline is None:
        return comparison.reason
    ratio, noise = comparison.ratio, timed.contenders[0].noise
    parts = [
        f"{ratio.estimate:.3f} times as long ({_interval(comparison)})",
        f"best {_time(comparison.candidate)}, before {_time(comparison.baseline)}",
        *(
            []
            if comparison.spread is None
            else [f"stored with a spread of {comparison.spread:.1%}"]
        ),
        f"tolerance {comparison.tolerance:.1%}",
        f"{comparison.rounds} {'fresh ' if comparison.stage == 2 else ''}rounds",
        f"noise {noise:.2f} (median over best)",
    ]
    return f"{comparison.reason}; {', '.join(parts)}"


def figures(comparison: SpeedComparison | None) -> dict[str, Any]:
    """The figures of a comparison as plain data."""
    if comparison is None or comparison.ratio is None:
        return {}
    return {
        "ratio": comparison.ratio.estimate,
        "low": comparison.ratio.low,
        "high": comparison.ratio.high,
        "best": comparison.candidate,
        "before": comparison.baseline,
        "tolerance": comparison.tolerance,
        "spread": comparison.spread,
        "rounds": comparison.rounds,
        "stage": comparison.stage,
    }


def _interval(comparison: SpeedComparison) -> str:
    ratio = comparison.ratio
    assert ratio is not None
    ends = f"{ratio.low:.3f} to {ratio.high:.3f}"
    return f"block minima {ends}" if comparison.spread is None else f"processes {ends}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.2f} us"


def _source(kernel: Kernel) -> str:
    return f"{kernel.file}:{kernel.line}"
