"""Which accesses of programs race, and which are ordered by atomics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from pytest_sparsity.checking.traffic import PLAIN, RELAXED, Launch, RaceCondition, Sharing, Traffic

BOTH = Sharing(atomic=True, acquires=True, releases=True)
ACQUIRE = Sharing(atomic=True, acquires=True)
RELEASE = Sharing(atomic=True, releases=True)


class Scene:
    """Programs that use elements of ``data``, or one of four flags."""

    def __init__(self, traffic: Traffic | None = None) -> None:
        self.data, self.flags = torch.zeros(8), torch.zeros(4, dtype=torch.int32)
        self.launch = Launch(traffic, "kernel", [("data", self.data), ("flags", self.flags)])

    def do(self, program: int, kind: Any, *elements: int, value: Any = 0, size: int = 4) -> Scene:
        addresses = np.array([self.data.data_ptr() + 4 * e for e in elements], np.uint64)
        values = np.full(len(elements), value, np.float32) if kind == "store" else None
        shared = RELAXED if kind == "atomic" else PLAIN
        self.launch.access(addresses, size, kind, self.place, (program,), values, shared)
        return self

    def flag(self, program: int, sharing: Sharing = BOTH, flag: int = 0) -> Scene:
        addresses = np.array([self.flags.data_ptr() + 4 * flag], np.uint64)
        self.launch.access(addresses, 4, "atomic", self.place, (program,), None, sharing)
        return self

    @staticmethod
    def place(program: Any) -> str:
        return "line 1"


def race(scene: Scene) -> str:
    with pytest.raises(RaceCondition) as caught:
        scene.launch.finish()
    return str(caught.value)


def test_programs_with_elements_of_their_own() -> None:
    scene = Scene()
    for program in (0, 1):
        scene.do(program, "load", program, program + 2).do(program, "store", program, program + 4)
    scene.launch.finish()


def test_loads_of_all_and_atomics_of_all() -> None:
    scene = Scene()
    for program in (0, 1):
        scene.do(program, "load", 0, 1).do(program, "atomic", 2, 3)
    scene.launch.finish()


@pytest.mark.parametrize("first", ["load", "store", "atomic"])
@pytest.mark.parametrize("second", ["load", "store", "atomic"])
def test_what_one_program_writes_and_another_one_uses(first: Any, second: Any) -> None:
    scene = Scene().do(0, first, 1, 2, 5, value=1).do(1, second, 0, 5, value=2)
    if first == second != "store":
        scene.launch.finish()
        return
    words = {"load": "loads", "store": "stores", "atomic": "does an atomic"}
    assert race(scene) == (
        f"at byte 20 of data program (1,) {words[second]}, in line 1, and program (0,) "
        f"{words[first]}, in line 1: no atomic orders them, and on a GPU they run at the same time"
    )


@pytest.mark.parametrize(
    ("release", "acquire", "ordered"),
    [
        (BOTH, BOTH, True),
        (RELEASE, ACQUIRE, True),
        (RELAXED, BOTH, False),
        (BOTH, RELAXED, False),
        (ACQUIRE, ACQUIRE, False),
        (RELEASE, RELEASE, False),
    ],
)
def test_a_release_and_an_acquire_order(release: Sharing, acquire: Sharing, ordered: bool) -> None:
    scene = Scene().do(0, "store", 3).flag(0, release).flag(1, acquire).do(1, "load", 3)
    if ordered:
        scene.launch.finish()
    else:
        assert "program (1,) loads" in race(scene)


def test_order_needs_one_flag_and_the_right_sequence() -> None:
    assert race(Scene().do(0, "store", 3).flag(0).flag(1, flag=1).do(1, "load", 3))
    assert race(Scene().flag(0).do(0, "store", 3).flag(1).do(1, "load", 3))
    assert race(Scene().do(0, "store", 3).flag(0).do(1, "load", 3).flag(1))


def test_order_goes_on_from_program_to_program() -> None:
    scene = Scene().do(0, "store", 3).flag(0).flag(1).flag(1, flag=1).flag(2, flag=1)
    scene.do(2, "store", 3).launch.finish()
    # Who only relaxes hands nothing on.
    scene = Scene().do(0, "store", 3).flag(0).flag(1, RELAXED).flag(1, flag=1).flag(2, flag=1)
    assert race(scene.do(2, "store", 3, value=1))


def test_a_store_must_come_after_every_load() -> None:
    scene = Scene().do(0, "load", 3).flag(0).do(1, "load", 3).flag(2).do(2, "store", 3)
    assert "program (1,) loads" in race(scene)
    scene = Scene().do(0, "load", 3).flag(0).do(1, "load", 3).flag(1).flag(2).do(2, "store", 3)
    scene.launch.finish()


def test_equal_values_are_noted_and_no_race() -> None:
    traffic = Traffic()
    scene = Scene(traffic).do(0, "store", 1, 2, value=5).do(1, "store", 2, 3, value=5)
    scene.launch.finish()
    assert (traffic.same, traffic.races) == (1, [])
    scene = Scene(traffic).do(0, "store", 1, 2, value=5).do(1, "store", 2, 3, value=6)
    scene.launch.finish()
    assert len(traffic.races) == 1
    # One reads what the other one stores, whatever it is.
    scene = Scene(traffic).do(0, "store", 1, value=5).do(1, "store", 1, value=5).flag(1)
    scene.flag(2).do(2, "load", 1).launch.finish()
    assert len(traffic.races) == 2
    assert "program (2,) loads, in line 1, and program (0,) stores" in traffic.races[1]


def test_bytes_of_wider_accesses() -> None:
    scene = Scene().do(0, "store", 2).do(1, "load", 0, size=8)
    scene.launch.finish()
    assert "at byte 8 of data program (1,) loads" in race(
        Scene().do(0, "store", 2, value=1).do(1, "load", 1, size=8)
    )


def test_operands_may_be_loaded_by_all_and_stored_to_by_one() -> None:
    y = torch.zeros(4)
    traffic = Traffic.of({"y": y})
    launch = Launch(traffic, "kernel", [])
    for program in (0, 1):
        addresses = y.data_ptr() + 4 * np.arange(3, dtype=np.uint64)
        launch.access(addresses, 4, "load", Scene.place, (program,))
        values = np.full(3, program, np.float32)
        launch.access(addresses, 4, "store", Scene.place, (program,), values)
    launch.finish()
    assert len(traffic.races) == 1
