from __future__ import annotations

import importlib.util
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="there is no triton for this platform"
)


@pytest.fixture(scope="module")
def report(report_of: Any) -> Any:
    """What ``triton_compiled.py`` prints: one process for all tests, each start takes long."""
    return report_of("triton_compiled.py")


def test_every_architecture_is_compiled_for(report: Any) -> None:
    assert report["arches"] == [80, 90, 100]


def test_right_kernel_passes_with_its_figures(report: Any) -> None:
    told = report["check"]["gemv"]
    assert len(told) == 3
    assert all("0 bytes spilled" in each and "weight 2 x 128" in each for each in told), told
    assert [each.split(":")[0] for each in told] == [f"gemv for sm_{n}" for n in (80, 90, 100)]


def test_scalar_loads_are_found(report: Any) -> None:
    (told,) = report["check"]["scalar_loads"]
    assert "loads weight by at most 16 bits at a time" in told
    assert "when compiled for sm_80" in told


def test_one_good_configuration_of_a_tuned_kernel_is_enough(report: Any) -> None:
    # The first one loads 64 bits at a time.
    assert all("2 warps" in each for each in report["check"]["tuned"]), report["check"]["tuned"]


def test_errors_of_the_compiler_are_findings(report: Any) -> None:
    (told,) = report["check"]["does_not_compile"]
    assert "tiles are too small" in told
    assert told.startswith("FOUND raised Compil")


def test_too_many_registers_are_found(report: Any) -> None:
    (told,) = report["check"]["large_tiles"]
    assert "registers per thread" in told


def test_kernel_without_launches_is_found(report: Any) -> None:
    (told,) = report["check"]["with_torch"]
    assert "launches no Triton kernel" in told


def test_widths_belong_to_operands(report: Any) -> None:
    # Of an output-major weight, the kernel's neighbouring outputs are not adjacent.
    assert report["output_major"] == [16]
    assert report["x"] > [16]
    assert report["nowhere"] == [None]


def test_interpreter_is_refused_after_triton_was_imported(report: Any) -> None:
    assert report["refusal"].startswith("TRITON_INTERPRET=1 must be in the environment before")
