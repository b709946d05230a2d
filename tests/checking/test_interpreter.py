from __future__ import annotations

import importlib.util
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("triton") is None, reason="there is no triton for this platform"
)


@pytest.fixture(scope="module")
def report(report_of: Any) -> Any:
    """What ``triton_interpreted.py`` prints: one process for all tests, each start takes long."""
    return report_of("triton_interpreted.py", TRITON_INTERPRET="1")


def test_bfloat16_is_bit_equal_to_torch(report: Any) -> None:
    assert [name for name, equal in report["bfloat16"].items() if not equal] == []
    assert len(report["bfloat16"]) == 22


def test_float32_is_multiplied_as_tensor_cores_do(report: Any) -> None:
    errors = report["products"]
    assert 0.05 < errors["tf32"] < 1
    assert errors.pop("bf16x3", 0) < 0.02
    assert {"tf32x3", "ieee"} <= set(errors)
    assert max(error for name, error in errors.items() if name != "tf32") < 2**-12


def test_kernel_with_complete_masks_has_no_violations(report: Any) -> None:
    assert report["violations"]["gemv 0"] == []
    assert report["violations"]["gemv 40"] == []


def test_loads_past_the_last_column_are_reported_with_their_place(report: Any) -> None:
    (found,) = report["violations"]["no_column_mask 0"]
    # The last channel is active; 28 lanes of the second tile are beyond column 100.
    assert found.startswith("28 lanes of a load outside of weight, the first 20000 bytes from")
    # The line of the kernel, and that of the function which it calls.
    assert "no_column_mask, program (1, 0, 0), triton_examples.py:" in found
    assert ", in product, triton_examples.py:" in found


def test_loads_from_the_gap_between_rows_are_told_apart(report: Any) -> None:
    found = report["violations"]["no_column_mask 40"]
    assert found
    assert all("beside the elements of weight" in each for each in found)


def test_accesses_outside_do_not_happen(report: Any) -> None:
    strays = report["strays"]
    assert strays["kinds"] == ["atomic", "load", "store"]
    assert strays["x"], "what was loaded from outside must be NaN"
    assert "32 lanes of a load outside of x" in strays["unwatched"]


def test_right_kernel_loads_what_is_needed(report: Any) -> None:
    loaded, needed, dense, x_loads, launches = report["right"]
    assert 0 < needed < dense == 96 * 80 * 2
    assert loaded == needed
    assert x_loads == 2  # two tiles of outputs
    assert launches == 1


@pytest.mark.parametrize("name", ["gemv", "heuristic", "tuned"])
def test_right_kernels_pass_work(report: Any, name: str) -> None:
    told = report["work"][name]
    assert not [each for each in told if each.startswith("FOUND")]
    assert "1.0000 of the dense weight bytes, 1.0000 needed" in told[0]
    assert "0.0000 of the dense weight bytes, 0.0000 needed" in told[5]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_column_mask", "lanes of a load outside of weight"),
        ("masks_arithmetic_only", "that belong to skipped channels: 1.0000 of its bytes"),
        ("reads_twice", "loads each needed element of weight 2.00 times"),
        ("drops_tail", "elements of weight in its launches, and its result depends on them"),
        ("works_on_a_copy", "does not load weight in its launches"),
    ],
)
def test_wrong_kernels_fail_work(report: Any, name: str, words: str) -> None:
    found = [each for each in report["work"][name] if each.startswith("FOUND")]
    assert any(words in each for each in found), found


def test_each_configuration_of_a_tuned_kernel_can_be_run(report: Any) -> None:
    # 32 and 64 outputs per program, of 64: x is loaded twice or once.
    assert report["configurations"] == [2, 1, 2]


def test_programs_run_up_down_and_by_lot(report: Any) -> None:
    up, down, lot, again = report["orders"]
    assert up == again == [0, 1, 2, 3, 4, 5]
    assert down == [5, 4, 3, 2, 1, 0]
    assert sorted(lot) == up
    assert lot not in (up, down)


def test_moved_internals_are_named(report: Any) -> None:
    where = "expected triton.runtime.interpreter.InterpreterBuilder.create_masked_load(self, "
    assert f"{where}pointers, ...), found create_masked_load(" in report["refusal"]
    assert report["refusal"].startswith("triton 3.")
