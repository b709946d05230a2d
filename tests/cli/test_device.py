"""``pytest-sparsity device`` against a pretended device: plan, resuming, time, receipts, page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from pytest_sparsity.cli import device
from pytest_sparsity.cli.device import parts as all_parts
from pytest_sparsity.cli.device.part import Part, Result, Store, Unfinished, go_through
from pytest_sparsity.cli.device.parts import Choices, parts
from pytest_sparsity.cli.device.runner import Finished
from pytest_sparsity.cli.device.timing import CUBLAS, FLOOR, LEVEL, judged
from pytest_sparsity.cli.device.verdicts import contradictions, differences
from pytest_sparsity.cli.main import main
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.speed.problems import dense_ways, linear_problem

SPEED = {
    "status": "passed",
    "fastest": "triton",
    "least": 0.85,
    "floor_seconds": 2e-6,
    "kernels": {
        "triton": {
            "seconds": 2e-5,
            "share_of_copy": 0.9,
            "share_beside_the_floor": 0.95,
            "times_cublas": [1.9, 1.8, 2.0],
        }
    },
}


def check(kernel: str, status: str, message: str = "", right: bool = True) -> Result:
    return {
        "kernel": kernel,
        "check": "edges",
        "status": status,
        "message": message,
        "right": right,
    }


class Pretended:
    """A machine that answers as one with a device would, and notes what it was asked."""

    device = "NVIDIA Pretended"

    def __init__(self, sanitizer: str | None = None, **on_device: str) -> None:
        self.sanitizer, self.on_device, self.asked = sanitizer, on_device, list[list[str]]()

    def find(self, program: str) -> str | None:
        return self.sanitizer

    def run(self, words: Sequence[str], seconds: float, *, hidden: bool = False) -> Finished:
        self.asked.append(list(words))
        text = " ".join(words)
        if "probes" in text:
            found = [
                check("op/probe-tf32", "failed", "is off", right=False),
                check("op/ok", "passed"),
            ]
            return Finished(0, "noise\n" + "\n".join(map(json.dumps, found)))
        if "timing" in text:
            return Finished(0, json.dumps(SPEED))
        if "launches" in text:
            return Finished(77, "========= Race reported\nnoise")
        folder = next(
            Path(w.partition("=")[2]) for w in words if w.startswith("--sparsity-report=")
        )
        folder.mkdir(parents=True)
        if "suite=kernels" in text:
            status = "passed" if hidden else self.on_device.get("kernels", "passed")
            line = check("op/triton", status, "is off")
            (folder / "kernels.jsonl").write_text(json.dumps(line) + "\n")
        else:
            (folder / "records.jsonl").write_text(
                json.dumps(record(-1.0 if hidden else -1.0001)) + "\n"
            )
        return Finished(0, "")


def record(mean: float) -> Result:
    documents = [{"id": "a", "log_likelihoods": [mean, mean]}]
    return {"cell": {"method": "teal", "level": 0.5}, "measured": {"documents": documents}}


@pytest.fixture
def given(tmp_path: Path) -> Callable[..., argparse.Namespace]:
    def make(**more: Any) -> argparse.Namespace:
        folders = {"folder": tmp_path / "kept", "receipts": tmp_path / "receipts", "minutes": 60.0}
        return argparse.Namespace(**{**folders, **more})

    return make


def conducted(given: argparse.Namespace, runner: Pretended) -> ExitCode:
    steps = parts(Choices(given.folder), ["op"], ["op 64x64"])
    return device.conduct(given, steps, runner, iter(range(10**6)).__next__)


def test_everything_is_done_once_and_written(
    given: Callable[..., argparse.Namespace], capsys: pytest.CaptureFixture[str]
) -> None:
    runner = Pretended()
    assert conducted(given(), runner) == ExitCode.OK
    page = (given().receipts / "device-nvidia-pretended.md").read_text()
    assert "| op 64x64 | triton (fastest) | 20.0 | 2.0 | 90% (at least 85%) | 95% |" in page
    assert "None: every check that ran in both places came out alike." in page
    assert "| compute-sanitizer memcheck | skipped | compute-sanitizer is not installed |" in page
    receipt = json.loads((given().receipts / "device-nvidia-pretended.json").read_text())
    assert receipt["figures"]["left"] == {}
    assert "records" not in receipt["figures"]["parts"][all_parts.SWEEP]
    again = Pretended()
    assert conducted(given(), again) == ExitCode.OK
    assert again.asked == []
    assert "speed of op 64x64: passed before" in capsys.readouterr().out


def test_what_the_device_contradicts_fails_and_is_told(
    given: Callable[..., argparse.Namespace],
) -> None:
    assert conducted(given(), Pretended(kernels="failed")) == ExitCode.FAILED
    page = (given().receipts / "device-nvidia-pretended.md").read_text()
    assert "| op/triton | edges | failed | passed | missed without a device | is off |" in page


def test_a_sanitizer_that_finds_something_fails(given: Callable[..., argparse.Namespace]) -> None:
    assert conducted(given(), Pretended(sanitizer="/bin/cs")) == ExitCode.FAILED
    assert "Race reported" in (given().receipts / "device-nvidia-pretended.md").read_text()


def test_another_device_starts_anew(given: Callable[..., argparse.Namespace]) -> None:
    conducted(given(), Pretended())
    other = Pretended()
    other.device = "NVIDIA Other"
    for folder in (given().folder / "reports").iterdir():
        folder.rename(folder.with_name(f"{folder.name}-before"))
    assert conducted(given(), other) == ExitCode.OK
    assert other.asked


def step(name: str, seconds: float = 10, needs: Sequence[str] = ()) -> Part:
    def run(runner: Any, results: Mapping[str, Result], rest: float) -> Result:
        runner.append(name)
        if "broken" in name:
            raise Unfinished("it was stopped at its limit")
        return {"status": "passed"}

    return Part(name, seconds, run, needs)


def gone_through(
    folder: Path, steps: list[Part], seconds: float
) -> tuple[list[str], dict[str, str]]:
    ran: list[str] = []
    times = iter(range(0, 10**6, 10))
    found = go_through(steps, ran, Store(folder, {}), seconds, times.__next__, str)  # type: ignore[arg-type]
    return ran, found.left


def test_parts_are_done_as_far_as_the_time_goes_and_gone_on_with(tmp_path: Path) -> None:
    steps = [step("first"), step("long", 500), step("broken"), step("last", 1, ["long"])]
    ran, left = gone_through(tmp_path, steps, 200)
    assert ran == ["first", "broken"]
    assert left["long"].startswith("takes up to 500 s, and ")
    assert left["broken"] == "it was stopped at its limit"
    assert left["last"] == "needs long"
    ran, left = gone_through(tmp_path, steps, 2000)
    assert ran == ["long", "broken", "last"]
    assert list(left) == ["broken"]


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"key": {}}', '{"key": {}, "result": {"status": 1}}']
)
def test_a_damaged_result_is_measured_again(tmp_path: Path, text: str) -> None:
    gone_through(tmp_path, [step("first")], 100)
    (file,) = tmp_path.iterdir()
    file.write_text(text)
    assert gone_through(tmp_path, [step("first")], 100)[0] == ["first"]


def test_contradictions_tell_what_they_mean() -> None:
    on_device = [
        check("a", "failed", "x"),
        check("b", "passed"),
        check("c", "passed"),
        check("d", "skipped"),
    ]
    without = [
        check("a", "passed"),
        check("b", "failed", "a race"),
        check("c", "passed"),
        check("d", "failed"),
    ]
    found = {each["kernel"]: each["meaning"] for each in contradictions(on_device, without)}
    assert found == {
        "a": "missed without a device",
        "b": "not seen on the device, where it shows by chance",
    }


def test_differences_are_of_documents_that_both_have() -> None:
    (nats,) = differences([record(-1.0)], [record(-1.5)]).values()
    assert nats == 0.5
    assert differences([record(-1.0)], []) == {}


def test_speeds_are_judged_by_bytes_that_are_read() -> None:
    problem = linear_problem(64, 32, (LEVEL,), dense_ways("cpu"), "cpu", 0)
    took = {"fast": [2e-6] * 10, "slow": [8e-6] * 10, FLOOR: [1e-6] * 10}
    times = {**took, **dict.fromkeys(problem.dense, [4e-6] * 10), CUBLAS: [4e-6] * 10}
    copied = 64 * 32 / 2e-6  # half of two bytes a weight
    found = judged(problem, times, copied, 0.85)
    assert (found["status"], found["fastest"]) == ("passed", "fast")
    assert found["kernels"]["fast"]["share_of_copy"] == pytest.approx(1.0)
    assert found["kernels"]["fast"]["share_beside_the_floor"] == pytest.approx(2.0)
    assert found["kernels"]["fast"]["times_cublas"][0] == pytest.approx(2.0)
    assert judged(problem, times, 2 * copied, 0.85)["status"] == "failed"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a device")
def test_without_a_device_it_is_one_sentence(refused: Callable[..., str]) -> None:
    assert "there is no CUDA device" in refused("device")


def test_bad_input_is_one_sentence(refused: Callable[..., str], tmp_path: Path) -> None:
    assert "--minutes 0.0: a number of minutes above 0" in refused("device", "--minutes=0")
    assert "--only 'nothing of it': no part's name" in refused("device", "--only=nothing of it")
    path = tmp_path / "kernels.jsonl"
    assert "--verdicts" in refused("device", f"--verdicts={path}")
    path.write_text("3\n")
    assert "a line is no object" in refused("device", f"--records={path}")


def test_the_plan_names_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["device", "--plan"]) == ExitCode.OK
    told = capsys.readouterr().out
    for words in ("probes on the device", "4096x128256, a head", "racecheck", "contradictions"):
        assert words in told
