from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from pytest_sparsity.checking.elements import Elements
from pytest_sparsity.checking.traffic import Launch, OutOfBounds, Traffic


def here(program: Any) -> str:
    return "here" if program is None else f"here, program {program}"


def load(launch: Launch, start: int, offsets: list[int], size: int = 4, kind: Any = "load") -> Any:
    addresses = np.array([start + offset for offset in offsets], dtype=np.int64).astype(np.uint64)
    legal = launch.access(addresses, size, kind, here)
    return [True] * len(offsets) if legal is None else legal.tolist()


@pytest.fixture
def weight() -> Tensor:
    """[3, 2] with a gap of three elements after each row, and margins."""
    return torch.zeros(40)[10:25].view(3, 5)[:, :2]


def test_counts_have_the_shape_of_the_operand(weight: Tensor) -> None:
    traffic = Traffic.of({"weight": weight})
    launch = Launch(traffic, "kernel", [("w", weight)])
    assert load(launch, weight.data_ptr(), [0, 4, 20, 20]) == [True] * 4
    assert load(launch, weight.data_ptr(), [20]) == [True]
    reads = traffic.reads("weight")
    # Two lanes of one load at one address load it once.
    assert reads.counts.tolist() == [[1, 1], [2, 0], [0, 0]]
    assert reads.bytes == 16
    assert reads.factor == 16 / 24
    assert not traffic.violations


def test_gap_margin_and_outside_are_told_apart(weight: Tensor) -> None:
    traffic = Traffic.of({"weight": weight})
    launch = Launch(traffic, "kernel", [("w", weight)])
    assert load(launch, weight.data_ptr(), [0, 8, -4, 4000]) == [True, False, False, False]
    assert [(v.lanes, v.offset, v.inside) for v in traffic.violations] == [
        (2, 8, True),
        (1, 4000, False),
    ]
    assert "beside the elements of weight, the first 8 bytes" in str(traffic.violations[0])


def test_access_across_the_end_is_outside() -> None:
    x = torch.zeros(4)
    traffic = Traffic.of({"x": x})
    assert load(Launch(traffic, "kernel", []), x.data_ptr(), [8, 12], size=8) == [True, False]


def test_wide_access_loads_every_element_it_covers() -> None:
    x = torch.zeros(8, dtype=torch.float16)
    traffic = Traffic.of({"x": x})
    load(Launch(traffic, "kernel", []), x.data_ptr(), [0, 8])
    assert traffic.reads("x").counts.tolist() == [1, 1, 0, 0, 1, 1, 0, 0]


@pytest.mark.parametrize("kind", ["load", "store", "atomic"])
def test_views_of_the_wrapper_end_with_their_last_element(kind: Any) -> None:
    buffer = torch.zeros(40)
    rows = buffer.view(4, 10)[:2, 1:3]
    traffic = Traffic()
    launch = Launch(traffic, "kernel", [("out", buffer[35:37]), ("rows", rows)])
    start = buffer.data_ptr()
    assert load(launch, start, [4, 8, 44, 48, 140, 144], kind=kind) == [True] * 6
    for offset in (0, 12, 40, 52, 136, 148):
        assert load(launch, start, [offset], kind=kind) == [False]
    assert str(traffic.violations[-1]) == (
        f"1 lane of a {kind} beside the elements of out, the first 8 bytes from its beginning, in "
        "here, program ()"
    )


def test_operands_are_known_by_whatever_pointer() -> None:
    weight = torch.zeros(4, 10)
    launch = Launch(None, "kernel", [("row", weight[0])], [Elements("weight", weight[:3])])
    assert load(launch, weight.data_ptr(), [0, 80, 116]) == [True] * 3
    with pytest.raises(OutOfBounds, match="beside the elements of weight, the first 120 bytes"):
        load(launch, weight.data_ptr(), [120])


def test_elements_of_every_layout(layouts: dict[str, Tensor]) -> None:
    for name, view in layouts.items():
        elements = Elements(name, view)
        first = view.untyped_storage().data_ptr()
        every = first + 4 * np.arange(view.untyped_storage().nbytes() // 4, dtype=np.uint64)
        held = elements.hold(every, 4)
        flags = torch.zeros(len(every), dtype=torch.bool)
        flags.as_strided(view.shape, view.stride(), view.storage_offset()).fill_(True)
        assert held.tolist() == flags.tolist(), name
        places = flags.nonzero().flatten()
        whole = len(places) > 0 and len(places) == int(places[-1] - places[0]) + 1
        assert elements.spans(elements.start, elements.stop) == whole or not len(places), name


def test_stores_are_not_reads() -> None:
    x = torch.zeros(4)
    traffic = Traffic.of({"x": x})
    load(Launch(traffic, "kernel", []), x.data_ptr(), [0], kind="store")
    assert traffic.reads("x").bytes == 0


def test_atomics_of_one_address_are_counted_per_launch() -> None:
    out = torch.zeros(4)
    traffic = Traffic()
    for lanes in ([0, 0, 4], [0]):
        launch = Launch(traffic, "kernel", [("out", out)])
        load(launch, out.data_ptr(), lanes, kind="atomic")
        load(launch, out.data_ptr(), lanes, kind="atomic")
        launch.finish()
    assert traffic.atomics == 4
    assert traffic.launches == ["kernel", "kernel"]


def test_sectors_are_distinct_pieces_of_memory() -> None:
    memory = torch.zeros(64)
    x = memory[(32 - memory.data_ptr() % 32) % 32 // 4 :][:32]
    traffic = Traffic.of({"x": x})
    load(Launch(traffic, "kernel", []), x.data_ptr(), [0, 4, 28, 64])
    assert traffic.reads("x").sectors == 2


def test_unwatched_launch_raises() -> None:
    x = torch.zeros(4)
    launch = Launch(None, "kernel", [("x", x)])
    assert load(launch, x.data_ptr(), [12]) == [True]
    with pytest.raises(OutOfBounds, match="1 lane of a load outside of x, the first 16 bytes"):
        load(launch, x.data_ptr(), [16])


def test_empty_operand_owns_nothing() -> None:
    empty = torch.empty(0, 3)
    traffic = Traffic.of({"weight": empty})
    assert traffic.reads("weight").counts.shape == (0, 3)
    assert traffic.reads("weight").factor == 0
