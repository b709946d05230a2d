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
from pytest_sparsity.kernels.registry import Kernel, find, registered
from pytest_sparsity.plugin.state import GATED, TIMED
from pytest_sparsity.settings.settings import Settings
from pytest_sparsity.targets import HardwareTarget
from pytest_sparsity.timing.gate import baseline
from pytest_sparsity.timing.gate.against import Revision, names_kernel
from pytest_sparsity.timing.gate.judge import Judged, KernelTimer
from pytest_sparsity.timing.gate.processes import Processes
from pytest_sparsity.timing.gate.result import Measured
from pytest_sparsity.timing.gate.rules import Ruling


class Timing:
    """What the speed gate of one session shares: processes, a revision, the lock of the device."""

    def __init__(self, settings: Settings, target: HardwareTarget) -> None:
        self.settings = settings
        self.target = target
        self.versions = versions()
        self.processes = Processes()
        named = settings.against is not None and not names_kernel(settings.against)
        self.revision = Revision(settings.against) if settings.against and named else None
        self.judge = KernelTimer(settings, target, self.processes, self.versions, self.revision)
        self._forget_sigterm = interrupt_on_sigterm()

    @contextmanager
    def device_to_itself(self) -> Iterator[None]:
        """Wait until no other process of ours takes times on this device."""
        folder = (self.settings.cache or default_cache()) / "locks"
        with locked(folder / f"timing-{self.target.device.replace(':', '-')}.lock"):
            yield

    def keep(self, measured: Iterable[Measured]) -> None:
        """Write what was measured before an interruption: no report may come of its test."""
        found = {each.name: each for each in measured if each.seconds}
        with suppress(SparsityError):  # the interruption is what counts
            if found:
                baseline.add(self.settings.report / baseline.FILE, found)

    def close(self) -> None:
        """End the processes, then remove what they imported from."""
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

    def __call__(self, kernel: str | Kernel | Callable[..., Any]) -> Ruling | None:
        """Time ``kernel``, and fail the test if it became slower and --sparsity-gate says so.

        The test is skipped if nobody can tell, and fails in any case if the kernel is wrong or
        broken.  Without a gate it is only timed.

        Args:
            kernel: ``"op/name"``, or what was registered.

        Raises:
            SparsityError: there is no such kernel or revision, or the baseline is damaged.
        """
        __tracebackhide__ = True
        found = find(kernel)
        with self._timing.device_to_itself():
            try:
                judged = self._timing.judge.judge(found)
            except BaseException:
                self._keep()
                raise
        self._tell(found, judged)
        self._conclude(judged)
        return judged.ruling

    def _keep(self) -> None:
        if (judged := self._timing.judge.current) is not None:
            self._timing.keep(self._measured(judged, partial=True))

    def _measured(self, judged: Judged, **about: Any) -> list[Measured]:
        target, versions = self._timing.target, self._timing.versions
        return judged.measured(target, versions=versions, test=self._item.nodeid, **about)

    def _tell(self, kernel: Kernel, judged: Judged) -> None:
        measured = self._measured(judged)
        self._timed.append(
            {
                "measured": [m.to_json() for m in measured],
                "store": judged.store,
                "registered": sorted(registered()),
            }
        )
        if judged.ruling is None and not judged.fault:
            return
        ruling = judged.ruling
        decision = Decision.REGRESSED if judged.fault or ruling is None else ruling.decision
        self._gated.append(
            {
                "kind": "speed",
                "id": kernel.id,
                "decision": decision.value,
                "reason": judged.fault or (_because(judged, ruling) if ruling else ""),
                "figures": figures(ruling),
                "source": _source(kernel),
            }
        )
        self._item.user_properties.append(("gate", decision.value))
        if ruling is not None and ruling.ratio is not None:
            self._item.user_properties.append(("gate ratio", ruling.ratio.estimate))

    def _conclude(self, judged: Judged) -> None:
        __tracebackhide__ = True
        if judged.fault:
            details = f"\n{judged.details.rstrip()}" if judged.details else ""
            pytest.fail(f"{judged.kernel} {judged.fault}{details}", pytrace=False)
        if judged.skipped:
            pytest.skip(judged.skipped)
        if judged.ruling is None:
            return
        text = told(judged, judged.ruling)
        if judged.ruling.decision is Decision.REGRESSED:
            if self._settings.gate == "fail":
                pytest.fail(f"{text}\n  again: {self._again()}", pytrace=False)
            warnings.warn(SparsityWarning(text), stacklevel=2)
        elif not judged.ruling.decision.decided:
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


def told(judged: Judged, ruling: Ruling) -> str:
    """A ruling as it is shown: one line with every figure it rests on."""
    against = f" against {judged.against}" if judged.against else ""
    return f"{judged.kernel} {ruling.decision.value}{against}: {_because(judged, ruling)}"


def _because(judged: Judged, ruling: Ruling) -> str:
    """The reason with every figure it rests on."""
    if ruling.ratio is None or ruling.candidate is None or ruling.baseline is None:
        return ruling.reason
    ratio, noise = ruling.ratio, judged.sides[0].noise
    parts = [
        f"{ratio.estimate:.3f} times as long ({_interval(ruling)})",
        f"best {_time(ruling.candidate)}, before {_time(ruling.baseline)}",
        *([] if ruling.spread is None else [f"stored with a spread of {ruling.spread:.1%}"]),
        f"tolerance {ruling.tolerance:.1%}",
        f"{ruling.rounds} {'fresh ' if ruling.stage == 2 else ''}rounds",
        f"noise {noise:.2f} (median over best)",
    ]
    return f"{ruling.reason}; {', '.join(parts)}"


def figures(ruling: Ruling | None) -> dict[str, Any]:
    """The figures of a ruling as plain data."""
    if ruling is None or ruling.ratio is None:
        return {}
    return {
        "ratio": ruling.ratio.estimate,
        "low": ruling.ratio.low,
        "high": ruling.ratio.high,
        "best": ruling.candidate,
        "before": ruling.baseline,
        "tolerance": ruling.tolerance,
        "spread": ruling.spread,
        "rounds": ruling.rounds,
        "stage": ruling.stage,
    }


def _interval(ruling: Ruling) -> str:
    ratio = ruling.ratio
    assert ratio is not None
    ends = f"{ratio.low:.3f} to {ratio.high:.3f}"
    return f"block minima {ends}" if ruling.spread is None else f"processes {ends}"


def _time(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if seconds >= 1e-4 else f"{seconds * 1e6:.2f} us"


def _source(kernel: Kernel) -> str:
    return f"{kernel.file}:{kernel.line}"
