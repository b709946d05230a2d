"""The table of configurations: whatever the shape, programs cover it and fit a GPU."""

from __future__ import annotations

import itertools

import pytest

from pytest_sparsity.kernels.triton import configurations
from pytest_sparsity.kernels.triton.configurations import PROCESSORS

KERNELS = {
    "masked": 2,
    "listed": 4,
    "segmented": 2,
    "bytes": 1,
    "nibbles": 1,
    "slots": 2,
}
SIZES = (1, 31, 32, 33, 576, 1536, 4096, 14336, 128256)
DEVICES = (PROCESSORS, 8, None)


def is_power_of_two(number: int) -> bool:
    return number > 0 and number & (number - 1) == 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("rows", range(1, 9))
@pytest.mark.parametrize("device", DEVICES)
def test_programs_of_a_product_cover_it(kernel: str, rows: int, device: int | None) -> None:
    for outputs, channels in itertools.product(SIZES, SIZES):
        plan = configurations.product(kernel, rows, outputs, channels, KERNELS[kernel], device)
        step = plan.unroll * plan.lanes
        assert plan.grid[0] * plan.rows >= rows > (plan.grid[0] - 1) * plan.rows
        assert plan.grid[1] * plan.block >= outputs > (plan.grid[1] - 1) * plan.block
        assert plan.splits * plan.share >= channels > (plan.splits - 1) * plan.share
        assert plan.share % step == 0
        assert all(map(is_power_of_two, plan.tile.values()))


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_thread_loads_16_bytes_and_tiles_fill_the_warps(kernel: str) -> None:
    for outputs, rows in itertools.product((64, 576, 4096), range(1, 9)):
        plan = configurations.product(kernel, rows, outputs, 4096, KERNELS[kernel])
        assert plan.lanes * plan.block * KERNELS[kernel] == plan.warps * 32 * 16


@pytest.mark.parametrize("kernel", KERNELS)
def test_large_layers_keep_a_gpu_busy_without_many_splits(kernel: str) -> None:
    plan = configurations.product(kernel, 1, 4096, 4096, KERNELS[kernel])
    assert 2 * PROCESSORS <= plan.grid[0] * plan.grid[1] * plan.splits <= 16 * PROCESSORS
    assert configurations.product(kernel, 1, 32, 10**6, KERNELS[kernel]).splits <= 128


def test_no_channel_is_one_split() -> None:
    """An empty list of indices still has a result."""
    assert configurations.product("listed", 1, 64, 0, 2).splits == 1
    assert configurations.product("listed", 1, 64, 0, 2, None).splits == 1


@pytest.mark.parametrize("rows", range(1, 9))
@pytest.mark.parametrize("device", DEVICES)
def test_tiles_of_hidden_values(rows: int, device: int | None) -> None:
    for channels, itemsize in itertools.product(SIZES, (2, 4)):
        plan = configurations.hidden(rows, channels, itemsize, device)
        assert plan.rows >= rows
        assert plan.vector * itemsize == 16
        assert plan.lanes <= plan.warps * 32
        assert all(map(is_power_of_two, plan.tile.values()))


def test_a_program_of_the_reduction_has_registers_for_its_parts() -> None:
    for splits in range(1, 129):
        block = configurations.reduction_block(splits)
        assert is_power_of_two(block)
        assert 64 <= block <= 1024
        assert splits * block <= 2 * 8192


@pytest.mark.parametrize(
    ("group", "width", "block", "expected"),
    [
        (32, 2048, 512, 16),
        (8, 2048, 512, 8),
        (96, 48, 64, 16),
        (5, 15, 32, 1),
        (6, 9, 32, 1),
        (128, 4, 32, 4),
    ],
)
def test_bytes_per_scale_divide_group_and_width(
    group: int, width: int, block: int, expected: int
) -> None:
    assert configurations.bytes_per_scale(group, width, block) == expected


def test_compaction_takes_what_registers_hold() -> None:
    assert configurations.compaction(1, 14336).block == 4096
    assert configurations.compaction(5, 14336).block == 512
    assert configurations.compaction(8, 3).block == 4
