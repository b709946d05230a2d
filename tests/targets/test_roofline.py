"""The model against arithmetic done by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from pytest_sparsity.checking.records import record, records
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.reference.ops import OPS as DEFINED
from pytest_sparsity.targets import work as traffic
from pytest_sparsity.targets.machines import machines
from pytest_sparsity.targets.roofline import Machine, plan
from pytest_sparsity.targets.work import Format, union, work

H200 = Machine("H200", 4.8e12, 60 << 20)
LAYER = (4096, 14336)


def test_an_h200_and_a_large_layer() -> None:
    """117 MB at 4.8 TB/s: 24.5 us dense, 12.2 us at 50 % (37 KB of activations besides)."""
    line = plan(traffic.linear, LAYER, "bfloat16", 0.5, 1, H200)
    assert line.work.dense_weights == 4096 * 14336 * 2 == 117_440_512
    assert line.work.activations == (4096 + 14336) * 2
    assert line.dense_seconds == pytest.approx(24.47e-6, abs=0.01e-6)
    assert line.seconds == pytest.approx(12.24e-6, abs=0.01e-6)
    assert line.ideal == 2
    assert line.speedup == pytest.approx(2, abs=0.001)
    assert not line.resident


def test_the_known_h200_adds_its_launch() -> None:
    (known,) = machines("h200")
    line = plan(traffic.linear, LAYER, "bfloat16", 0.5, 1, known)
    bare = plan(traffic.linear, LAYER, "bfloat16", 0.5, 1, H200)
    assert line.seconds == pytest.approx(bare.seconds + 0.5e-6)
    assert line.speedup < bare.speedup


def test_a_small_layer_is_launch_and_little_else() -> None:
    """576x1536: 1.77 MB in 0.37 us; at 3 us a launch, half of the weights gain 6 %."""
    small = replace(H200, overhead=3e-6)
    line = plan(traffic.linear, (576, 1536), "bfloat16", 0.5, 1, small, cold=True)
    assert line.dense_seconds - 3e-6 == pytest.approx(0.37e-6, abs=0.005e-6)
    assert line.speedup == pytest.approx(1.058, abs=0.002)


def test_weights_in_a_cache_use_no_memory_bandwidth() -> None:
    line = plan(traffic.linear, (576, 1536), "bfloat16", 0.5, 1, replace(H200, overhead=3e-6))
    assert line.resident
    assert line.seconds == line.dense_seconds == 3e-6
    assert (line.speedup, line.break_even) == (1, None)
    assert plan(traffic.linear, (576, 1536), "bfloat16", 0.5, 1, H200).speedup == 1
    unknown = replace(H200, cache=None)
    assert not plan(traffic.linear, (576, 1536), "bfloat16", 0.5, 1, unknown).resident
    fitting = replace(H200, cache=4096 * 14336 * 2)
    assert plan(traffic.linear, LAYER, "bfloat16", 0.5, 1, fitting).resident


@pytest.mark.parametrize(("rows", "active"), [(1, 0.5), (2, 0.75), (4, 0.9375), (8, 0.99609375)])
def test_rows_with_masks_of_their_own_need_the_union(rows: int, active: float) -> None:
    assert union(0.5, rows) == active
    layer = work(traffic.linear, 1000, 1000, "float32", 0.5, rows)
    assert layer.weights == active * 4e6
    assert layer.activations == rows * 8000


def test_a_swiglu_reads_its_gate_whole() -> None:
    for level in (0.25, 0.5, 0.75):
        line = plan(traffic.gated, LAYER, "bfloat16", level, 1, H200)
        assert line.ideal == pytest.approx(3 / (3 - 2 * level))
        assert line.work.dense_weights == 3 * 4096 * 14336 * 2
    assert plan(traffic.gated, LAYER, "bfloat16", 1.0, 1, H200).ideal == 3


def test_lists_of_indices_count() -> None:
    linear = work(traffic.listed, 1000, 10, "float16", 0.75, 4)
    assert (linear.weights, linear.lists) == (250 * 10 * 2, 250 * 4)
    mlp = work(traffic.predicted, 1000, 10, "float16", 0.5)
    assert (mlp.weights, mlp.lists) == (3 * 1000 * 5 * 2, 5 * 4)


def test_quantised_weights() -> None:
    """64 outputs of a channel are 32 bytes and a scale of 2; int8 has one scale per output."""
    four = work(traffic.quantized, 10, 128, "bfloat16", 0.5)
    assert (four.weights, four.dense_weights) == (10 * 2 * 34 / 2, 10 * 2 * 34)
    padded = work(traffic.quantized, 10, 65, "bfloat16", 0.0)
    assert padded.weights == 10 * 2 * 34
    eight = work(traffic.quantized, 10, 128, "bfloat16", 0.5, form=Format(bits=8))
    assert (eight.weights, eight.dense_weights) == (5 * 128 + 256, 10 * 128 + 256)


def test_semi_structured_weights() -> None:
    """2:4 halves the values and adds half a byte to each; a group of 4 is seldom skipped."""
    packed = work(traffic.semi_structured, 400, 10, "bfloat16", 0.0)
    assert packed.weights == 200 * 10 * 2.5
    assert packed.dense_weights == 400 * 10 * 2
    half = work(traffic.semi_structured, 400, 10, "bfloat16", 0.5)
    assert half.weights == (1 - 0.5**4) * packed.weights
    assert plan(traffic.semi_structured, LAYER, "bfloat16", 0.0, 1, H200).ideal == 1.6


@pytest.mark.parametrize("factor", [1.25, 2, 4])
def test_a_weaker_kernel_breaks_even_at_1_minus_1_over_x(factor: float) -> None:
    line = plan(traffic.linear, LAYER, "float32", 0.5, 1, H200, relative=1 / factor)
    # Activations, which no level saves, move it by a thousandth.
    assert line.break_even == pytest.approx(1 - 1 / factor, abs=0.002)


def test_break_even_with_time_besides() -> None:
    dense = 117_440_512 / 4.8e12
    line = plan(traffic.linear, LAYER, "bfloat16", 0.5, 1, H200, extra=0.25 * dense)
    assert line.break_even == pytest.approx(0.25)
    assert plan(traffic.linear, LAYER, "bfloat16", 0.5, 1, H200).break_even == 0
    never = plan(traffic.linear, LAYER, "bfloat16", 0.5, 1, H200, extra=1.1 * dense)
    assert never.break_even is None


def test_a_machine_that_saves_nothing_by_the_gate() -> None:
    """A swiglu kernel of half the bandwidth: 3 - 2 s must halve, at s = 3/4."""
    line = plan(traffic.gated, LAYER, "float32", 0.5, 1, H200, relative=0.5)
    assert line.break_even == pytest.approx(0.75, abs=0.001)


@pytest.mark.parametrize("op", sorted(set(records()) - {"compact"}))
def test_bytes_never_grow_with_the_level(op: str) -> None:
    model = record(op).traffic
    assert model is not None
    totals = [work(model, 512, 1024, "bfloat16", level / 10, 2).total for level in range(11)]
    assert totals == sorted(totals, reverse=True)
    assert totals[-1] < totals[0]


def test_ops_are_those_that_kernels_are_registered_for() -> None:
    known = {name for name, each in records().items() if each.traffic is not None}
    assert known == set(DEFINED) - {"compact"}  # which reads no weights


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((traffic.linear, 4, 4, "int8", 0.5), "dtype 'int8' is none of bfloat16, "),
        ((traffic.linear, 0, 4, "bfloat16", 0.5), "shape 0x4: both sizes"),
        ((traffic.linear, 4, 4, "bfloat16", 1.5), "level 1.5: a level is a fraction"),
        ((traffic.linear, 4, 4, "bfloat16", float("nan")), "level nan"),
        ((traffic.linear, 4, 4, "bfloat16", 0.5, 9), "rows 9: sparse kernels take 1 to 8"),
        ((traffic.quantized, 4, 4, "bfloat16", 0, 1, Format(bits=3)), "bits 3"),
        ((traffic.quantized, 4, 4, "bfloat16", 0, 1, Format(group=0)), "group 0"),
        ((traffic.semi_structured, 4, 4, "bfloat16", 0, 1, Format(kept=4)), "4 of 4 is no"),
    ],
)
def test_impossible_work_is_one_sentence(arguments: tuple[object, ...], complaint: str) -> None:
    with pytest.raises(SparsityError, match=complaint):
        work(*arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("relative", [0, -1, float("nan")])
def test_impossible_relative_bandwidth(relative: float) -> None:
    with pytest.raises(SparsityError, match="it must be more than 0"):
        plan(traffic.linear, LAYER, "bfloat16", 0.5, 1, H200, relative=relative)
