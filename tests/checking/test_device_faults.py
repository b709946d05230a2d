"""What a GPU would show: wrong kernels fail by it in the interpreter, and right ones pass."""

from __future__ import annotations

import importlib.util
from importlib.metadata import version
from pathlib import Path

import pytest

from pytest_sparsity.checking import api
from pytest_sparsity.testing import KernelFailure, check_kernel

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="there is no triton for this platform"
)
KERNELS = str(Path(__file__).with_name("device_kernels.py"))


@pytest.fixture(autouse=True)
def _registered(own_kernels: None) -> None:
    api._import(KERNELS)


@pytest.mark.parametrize(
    "name",
    [
        "none",
        "undefined-chosen-away",
        "ieee",
        "tf32x3",
        "bf16x6",
        "tf32-declared",
        "within-a-view",
        "a-lock",
        "by-turns",
        "the-last",
        "all-wait",
        "the-same-by-all",
    ],
)
def test_right_kernels_pass(name: str) -> None:
    if name == "bf16x6" and version("triton").startswith("3.5."):
        pytest.skip("Triton has this precision since 3.6")
    check_kernel(f"sparse_linear/{name}", ["edges", "bounds"], module=KERNELS, examples=10)


def failure(name: str, check: str) -> str:
    with pytest.raises(KernelFailure) as caught:
        check_kernel(f"sparse_linear/{name}", check, module=KERNELS, examples=20)
    return str(caught.value)


@pytest.mark.parametrize("check", ["edges", "fuzz"])
def test_lanes_without_a_value_must_not_matter(check: str) -> None:
    found = failure("undefined", check)
    words = "depends on lanes of a load that are masked off without other=, which are undefined ("
    assert f"fails the check '{check}': {words}" in found
    # The line of the kernel, and that of the function which it calls.
    assert "here), in product, device_kernels.py:" in found
    assert ", in sums, device_kernels.py:" in found


@pytest.mark.parametrize("name", ["dot", "tf32"])
def test_float32_must_not_be_multiplied_in_tf32(name: str) -> None:
    words = "depends on bits of float32 operands that tl.dot ignores on a GPU"
    assert words in failure(name, "edges")


def test_compiled_products_tell_tf32() -> None:
    found = failure("dot", "compile")
    assert "multiplies float32 operands in TF32, with 10 bits, in product: tl.dot does so" in found
    for name in ("ieee", "tf32x3", "tf32-declared"):
        check_kernel(f"sparse_linear/{name}", "compile", module=KERNELS)


def test_a_view_ends_with_its_last_element() -> None:
    found = failure("past-a-view", "edges")
    assert "lanes of a load beside the elements of bias, the first " in found


@pytest.mark.parametrize(
    "name",
    [
        "nothing-orders",
        "a-lock-opened-early",
        "a-relaxed-lock",
        "the-last-relaxed",
        "zeroed-by-the-first",
    ],
)
def test_what_programs_share_must_be_ordered_by_atomics(name: str) -> None:
    found = failure(name, "edges")
    assert "raised RaceCondition: at byte " in found
    assert "no atomic orders them" in found


def test_an_order_of_programs_is_told_as_the_cause() -> None:
    found = failure("first-come", "repeat")
    assert "depends on the order in which the programs of a launch run, which is open" in found
    assert "is declared deterministic and gives another result" in found


def test_offsets_have_64_bits() -> None:
    found = failure("32-bits", "far")
    assert "of a load outside of weight, the first -" in found
    report = check_kernel("sparse_linear/none", "far", module=KERNELS)
    assert [(each.status, each.examples) for each in report.outcomes] == [("passed", 6)]
