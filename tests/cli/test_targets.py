"""``pytest-sparsity targets``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pytest_sparsity.cli.main import main
from pytest_sparsity.targets import Cache, HardwareTarget, bandwidth, machines
from pytest_sparsity.targets.known import KNOWN

HOST = HardwareTarget("cpu", "some CPU", (), 4, 64 << 30, False, caches=(Cache(3, 32 << 20, 2),))


@pytest.fixture
def _host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machines, "resolve_target", lambda name, option: HOST)
    monkeypatch.setattr(bandwidth, "default_cache", lambda: tmp_path)
    monkeypatch.setattr(bandwidth, "read_bandwidth", lambda threads, size: 2e10 * threads)


@pytest.fixture
def planned(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What the command prints with these options."""

    def run(*options: str) -> str:
        assert main(["targets", *options]) == 0
        return capsys.readouterr().out

    return run


def test_a_plan_for_a_device_that_is_not_here() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest_sparsity", "targets", "--target=h200", "--levels=0.5,0.75"],
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "sparse_linear 4096x14336 bfloat16, 1 row(s)"
    row = ["NVIDIA", "H200", "0.5", "58.76", "12.74", "24.97", "1.96", "2.00", "0%"]
    assert lines[3].split() == row
    assert lines[4].split()[2:] == ["0.75", "29.40", "6.62", "24.97", "3.77", "4.00", "0%"]
    assert "4800 GB/s (NVIDIA H200, specifications, https://www.nvidia.com" in lines[5]
    assert done.stderr == ""


@pytest.mark.usefixtures("_host")
def test_this_machine(planned: Callable[..., str]) -> None:
    output = planned("--levels=0.5", "--threads=1")
    assert "some CPU, 1 thread  " in output
    assert "20 GB/s (reading main memory, measured); overhead of a call not known" in output
    output = planned("--levels=0.5", "--target=cpu", "--overhead-us=8")
    assert "some CPU, 4 threads: 80 GB/s (reading main memory, measured); 8 us per call" in output


@pytest.mark.usefixtures("_host")
def test_a_thread_has_the_cache_around_it_and_all_have_all() -> None:
    (one,), (both,) = machines.machines("cpu", 1), machines.machines("cpu")
    assert (one.cache, both.cache) == (32 << 20, 64 << 20)


def test_a_layer_in_the_cache_is_pointed_out(planned: Callable[..., str]) -> None:
    output = planned("--shape=576x1536", "--target=h200")
    assert "in cache" in output
    assert "NVIDIA H200: this layer fits into its cache of 60 MiB." in output
    assert "in cache" not in planned("--shape=576x1536", "--target=h200", "--cold")


def test_break_even_of_a_weak_kernel(planned: Callable[..., str]) -> None:
    weak = planned("--target=mi300x", "--levels=0.5", "--relative=0.5", "--shape=8192x28672")
    assert "50%\n" in weak
    output = planned("--target=h100", "--levels=0.5", "--extra-us=1000")
    assert "never\n" in output
    assert "100% of the dense one's bandwidth that takes 1000 us besides" in output


def test_a_family_is_planned_for_as_a_whole_and_once(planned: Callable[..., str]) -> None:
    output = planned("--target=h100", "--target=h100", "--target=h200", "--levels=0.5")
    names = [line.split("  ")[0] for line in output.splitlines()[3:6]]
    assert names == ["NVIDIA H100 SXM", "NVIDIA H100 PCIe", "NVIDIA H200"]


def test_known_targets_are_listed_with_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "targets"]) == 0
    output = capsys.readouterr().out
    for row in KNOWN:
        assert row.key in output
        assert row.bandwidth.source.url in output


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--target=nope"], "--target 'nope' is not known; use auto, cpu or cuda:INDEX for this"),
        (["--target=cuda:99"], "--target cuda:99: torch sees "),
        (["--shape=" + "9" * 400 + "x1"], "is not of the form 4096x14336"),
        (["--relative=inf"], "--relative inf: a fraction above 0"),
        (["--overhead-us=inf"], "--overhead-us inf: at least 0"),
        (["--target=nope"], "a100-80gb, a100-40gb, h100-sxm"),
        (["--op=nope"], "there is no op 'nope'; known are sparse_linear"),
        (["--shape=4096"], "--shape '4096' is not of the form 4096x14336"),
        (["--shape=0x4"], "shape 0x4: both sizes must be at least 1"),
        (["--dtype=int8"], "dtype 'int8' is none of"),
        (["--levels=half"], "--levels 'half': give fractions"),
        (["--levels=0.5,50"], "level 50.0: a level is a fraction from 0 to 1"),
        (["--rows=9"], "rows 9"),
        (["--relative=0"], "--relative 0.0: a fraction above 0"),
        (["--overhead-us=-1"], "--overhead-us -1.0: at least 0"),
        (["--extra-us=nan"], "--extra-us nan: at least 0"),
        (["--threads=0"], "--threads 0: at least 1"),
        (["--op=sparse_quantized_linear", "--bits=2"], "bits 2"),
        (["--op=semi_structured_linear", "--format=4:2"], "4 of 2 is no"),
        (["--op=semi_structured_linear", "--format=24"], "--format '24' is not of the form 2:4"),
    ],
)
def test_mistakes_are_one_sentence(
    capsys: pytest.CaptureFixture[str], arguments: list[str], complaint: str
) -> None:
    assert main(["targets", "--target=h200", *arguments]) == 4
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("ERROR: ")
    assert complaint in captured.err
    assert captured.err.count("\n") == 1
