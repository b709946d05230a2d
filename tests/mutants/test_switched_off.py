"""Groups of decisive cases are switched off, and nothing else is."""

from __future__ import annotations

import pytest
from switched_off import GROUPS, _record_without, _switch_off

from pytest_sparsity.checking import values
from pytest_sparsity.checking.case import Case
from pytest_sparsity.checking.records import record
from pytest_sparsity.kernels import registry


def left_out(op: str, group: str) -> list[Case]:
    """The edge cases of an op that are in a group."""
    kernel, own = registry.kernel(f"{op}/torch"), record(op)
    kept = _record_without(group, own).edge_cases(kernel)
    assert set(kept) <= set(own.edge_cases(kernel)) or group in ("saturated", "overflow")
    return [case for case in own.edge_cases(kernel) if case not in kept]


def test_a_single_channel_beyond_what_16_bits_count() -> None:
    cases = left_out("sparse_linear", "counters")
    assert {(case.k, case.n) for case in cases} == {(65539, 2), (2, 65539)}
    assert all(case.pattern == "last" for case in cases)


def test_sizes_beyond_tiles() -> None:
    assert {case.k for case in left_out("sparse_linear", "tiles")} == {3, 513, 1025, 4097}
    assert {case.k for case in left_out("semi_structured_linear", "tiles")} == {4, 528, 1040, 4112}


def test_the_last_channel_alone() -> None:
    cases = left_out("sparse_linear", "alone")
    assert {(case.k, case.level, case.pattern) for case in cases} >= {(257, 1.0, "last")}


@pytest.mark.parametrize(
    ("op", "group"), [("sparse_swiglu", "saturated"), ("sparse_linear", "overflow")]
)
def test_patterns(op: str, group: str) -> None:
    assert group in record(op).patterns
    assert group not in _record_without(group, record(op)).patterns
    assert any(case.pattern == group for case in left_out(op, group))


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(values, "_elsewhere", values._elsewhere)
    inputs = record("sparse_linear").build(Case(1, 8, 8))
    assert values._elsewhere(inputs, 2) is not inputs
    _switch_off("addresses")
    assert values._elsewhere(inputs, 2) is inputs


def test_there_are_no_other_groups() -> None:
    tested = {"counters", "tiles", "alone", "saturated", "overflow", "addresses"}
    assert GROUPS.keys() == tested
