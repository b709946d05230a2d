"""The parts of the work on a device, in the order of what a short loan should give first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pytest_sparsity.cli.device.part import Part, Result, Unfinished, lines, read_lines
from pytest_sparsity.cli.device.runner import Runner
from pytest_sparsity.cli.device.verdicts import contradictions, differences
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.reporting.kernels import FILE

_MODULE = "pytest_sparsity.cli.device"
PROBES, PROBES_WITHOUT = "probes on the device", "probes without a device"
SWEEP, SWEEP_WITHOUT = "sweep on the device", "sweep on a CPU"
COMPARED, CONTRADICTED = "sweep compared", "contradictions"
SANITIZER = "compute-sanitizer"
#: Nats per token that a document may differ by between a device and a CPU, both in float32.
NEAR = 1e-3
_SWEEP = (
    *("--sparsity-suite=accuracy", "--sparsity-profile=smoke", "--sparsity-dtype=float32"),
    *("--sparsity-spon=off", "--sparsity-levels=0.5"),
)


@dataclass(frozen=True)
class Choices:
    """What is asked for.

    Attributes:
        folder: where report folders of the parts go.
        model: of the sweep.
        verdicts: ``kernels.jsonl`` of a run without a device; None to make one here.
        records: ``records.jsonl`` of the sweep on a CPU; None to make one here.
    """

    folder: Path
    model: str = "relu-4m"
    verdicts: Path | None = None
    records: Path | None = None


def parts(choices: Choices, ops: Sequence[str], layers: Sequence[str]) -> list[Part]:
    """All parts.

    Args:
        choices: what is asked for.
        ops: names of the ops whose kernels are checked.
        layers: names of what is timed, see ``timing``.
    """
    return [
        Part(PROBES, 60, partial(_probes, hidden=False)),
        *(Part(f"speed of {layer}", 40, partial(_speed, layer)) for layer in layers),
        *(Part(f"kernels of {op}", 90, partial(_kernels, choices, op, False)) for op in ops),
        *(Part(f"{SANITIZER} {tool}", 60, partial(_sanitized, tool)) for tool in _TOOLS),
        Part(SWEEP, 60, partial(_sweep, choices, "cuda")),
        Part(PROBES_WITHOUT, 60, partial(_probes, hidden=True)),
        Part(SWEEP_WITHOUT, 60, partial(_sweep, choices, "cpu")),
        Part(COMPARED, 1, _compared, (SWEEP, SWEEP_WITHOUT)),
        *(Part(f"{op} without a device", 90, partial(_kernels, choices, op, True)) for op in ops),
        Part(CONTRADICTED, 1, partial(_contradicted, ops), (PROBES, PROBES_WITHOUT)),
    ]


_TOOLS = ("memcheck", "racecheck")
_FOUND = 77  # exit code of compute-sanitizer that no program of ours has


def _probes(runner: Runner, _: Mapping[str, Result], seconds: float, *, hidden: bool) -> Result:
    found = lines(runner.run(["python", "-m", f"{_MODULE}.probes"], seconds, hidden=hidden), "it")
    if not found:
        raise Unfinished("it printed no results")
    wrong = sorted({each["kernel"] for each in found if each["right"] and _failed(each)})
    caught = {each["kernel"] for each in found if _failed(each)}
    missed = sorted({each["kernel"] for each in found if not each["right"]} - caught)
    right = not wrong and (hidden or not missed)
    return {
        "status": "measured" if hidden else "passed" if right else "failed",
        "checks": found,
        "right but failed": wrong,
        "wrong but passed": missed,
    }


def _speed(layer: str, runner: Runner, _: Mapping[str, Result], seconds: float) -> Result:
    words = ["python", "-m", f"{_MODULE}.timing", layer]
    found = lines(runner.run(words, seconds), "it")
    if not found:
        raise Unfinished("it printed no figures")
    return found[-1]


def _pytest(
    runner: Runner, folder: Path, options: Sequence[str], seconds: float, *, hidden: bool
) -> None:
    """Run a sweep of a bundled suite; what it measured is in the report folder.

    Raises:
        Unfinished: it was stopped, or it broke.
    """
    words = ["python", "-m", "pytest", "--sparsity-sweep", "-q", "-p", "no:cacheprovider"]
    finished = runner.run([*words, f"--sparsity-report={folder}", *options], seconds, hidden=hidden)
    if finished.code not in (ExitCode.OK, ExitCode.FAILED):
        lines(finished, "pytest")
        raise Unfinished("pytest gave no results")


def _kernels(
    choices: Choices,
    op: str,
    hidden: bool,
    runner: Runner,
    _: Mapping[str, Result],
    seconds: float,
) -> Result:
    if hidden and choices.verdicts is not None:
        known = read_lines(choices.verdicts, "--verdicts")
        return {"status": "measured", "checks": _told(known, op)}
    folder = choices.folder / "reports" / f"{op}{'-without' if hidden else ''}"
    options = ["--sparsity-suite=kernels", "-k", f"{op}/ and (triton or cuda)"]
    _pytest(runner, folder, options, seconds, hidden=hidden)
    checks = _told(_report(folder / FILE), op)
    status = "failed" if any(map(_failed, checks)) else "passed"
    return {"status": "measured" if hidden else status, "checks": checks}


def _told(results: Sequence[Mapping[str, Any]], op: str) -> list[Result]:
    """What is kept of checks of an op's kernels."""
    names = ("kernel", "check", "status", "message")
    chosen = (each for each in results if str(each.get("kernel")).startswith(f"{op}/"))
    return [{name: each.get(name) for name in names} for each in chosen]


def _report(path: Path) -> list[Result]:
    if not path.is_file():
        raise Unfinished(f"it left no {path.name}")
    return read_lines(path, "the report")


def _sanitized(tool: str, runner: Runner, _: Mapping[str, Result], seconds: float) -> Result:
    program = runner.find("compute-sanitizer")
    if program is None:
        return {"status": "skipped", "reason": "compute-sanitizer is not installed"}
    words = [program, f"--tool={tool}", f"--error-exitcode={_FOUND}", "python"]
    finished = runner.run([*words, "-m", f"{_MODULE}.launches"], seconds)
    if finished.code not in (0, _FOUND):
        lines(finished, tool)
    found = [line for line in finished.output.splitlines() if line.startswith("=========")]
    return {"status": "failed" if finished.code else "passed", "found": found[:40]}


def _sweep(
    choices: Choices, target: str, runner: Runner, _: Mapping[str, Result], seconds: float
) -> Result:
    hidden = target == "cpu"
    if hidden and choices.records is not None:
        return {"status": "measured", "records": read_lines(choices.records, "--records")}
    folder = choices.folder / "reports" / f"sweep-{target}"
    options = [*_SWEEP, f"--sparsity-model={choices.model}", f"--sparsity-target={target}"]
    _pytest(runner, folder, options, seconds, hidden=hidden)
    return {"status": "measured", "records": _report(folder / "records.jsonl")}


def _compared(_: Runner, results: Mapping[str, Result], __: float) -> Result:
    found = differences(results[SWEEP]["records"], results[SWEEP_WITHOUT]["records"])
    if not found:
        return {"status": "failed", "reason": "the two sweeps share no document of any cell"}
    far = {cell: nats for cell, nats in found.items() if not nats <= NEAR}
    return {"status": "failed" if far else "passed", "nats": found, "least": NEAR}


def _contradicted(
    ops: Sequence[str], _: Runner, results: Mapping[str, Result], __: float
) -> Result:
    named = [(PROBES, PROBES_WITHOUT)]
    named += [(f"kernels of {op}", f"{op} without a device") for op in ops]
    missing = [name for pair in named for name in pair if name not in results]
    if missing:
        raise Unfinished(f"needs {', '.join(missing)}")
    found = [each for pair in named for each in contradictions(*_checks(results, pair))]
    missed = [each for each in found if each["device"] == "failed"]
    return {"status": "failed" if missed else "passed", "contradictions": found}


def _checks(results: Mapping[str, Result], names: Sequence[str]) -> Iterator[list[Result]]:
    for name in names:
        yield results[name]["checks"]


def _failed(check: Mapping[str, Any]) -> bool:
    return bool(check["status"] == "failed")
