from __future__ import annotations

import math

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.targets.known import KNOWN, Known, is_known, known


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: row.key)
def test_every_figure_has_a_source(row: Known) -> None:
    figures = (row.bandwidth, row.memory, row.units, row.cache, row.overhead)
    for figure in figures:
        if figure is not None:
            assert figure.value > 0
            assert math.isfinite(figure.value)
            assert len(figure.source.title) > 10
            assert figure.source.url.startswith("https://")
    assert row.bandwidth.value > 5e10  # bytes, not gigabytes
    assert row.cache is None or 1 << 20 < row.cache.value < 1 << 30
    assert row.kind in ("cpu", "cuda")
    assert (row.memory is None) <= (row.kind == "cpu")


def test_the_table_is_what_users_ask_for() -> None:
    keys = [row.key for row in KNOWN]
    assert len(set(keys)) == len(keys)
    wanted = {
        *("a100-40gb", "a100-80gb", "h100-sxm", "h100-pcie", "h200", "l4", "l40s"),
        *("rtx-4090", "rtx-3090", "rtx-a6000", "mi300x", "epyc-9654", "epyc-9755", "xeon-8480"),
        *(f"apple-m{i}{size}" for i in range(1, 5) for size in ("", "-pro", "-max")),
    }
    assert wanted == set(keys)


@pytest.mark.parametrize(
    ("reported", "key"),
    [
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA H100 80GB HBM3", "h100-sxm"),
        ("NVIDIA H100 PCIe", "h100-pcie"),
        ("NVIDIA H200", "h200"),
        ("NVIDIA L4", "l4"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx-4090"),
        ("NVIDIA GeForce RTX 3090", "rtx-3090"),
        ("NVIDIA RTX A6000", "rtx-a6000"),
        ("AMD Instinct MI300X", "mi300x"),
        ("Apple M1", "apple-m1"),
        ("Apple M3 Max", "apple-m3-max"),
        ("AMD EPYC 9654 96-Core Processor, family 25 model 17", "epyc-9654"),
        ("Intel(R) Xeon(R) Platinum 8480+, family 6 model 143", "xeon-8480"),
        ("AMD EPYC 9654P 96-Core Processor, family 25 model 17", "epyc-9654"),
        ("NVIDIA A100 80GB PCIe", None),  # 1935 GB/s
        ("NVIDIA H100 80GB HBM3 MIG 1g.10gb", None),  # has an eighth of the bandwidth
        ("NVIDIA GeForce RTX 3090 Ti", None),
        ("NVIDIA GeForce RTX 4090 D", None),
        ("NVIDIA L40", None),
        ("NVIDIA GH200 480GB", None),
        ("AMD EPYC, family 26 model 2", None),
    ],
)
def test_devices_are_recognised_by_what_they_report(reported: str, key: str | None) -> None:
    assert [row.key for row in KNOWN if row.matches(reported)] == ([key] if key else [])


def test_a_family_is_all_of_its_members() -> None:
    assert [row.key for row in known("h100")] == ["h100-sxm", "h100-pcie"]
    assert [row.key for row in known("apple-m1")] == ["apple-m1"]
    assert [row.key for row in known("l4")] == ["l4"]
    assert not is_known("h10")
    assert not is_known("")
    with pytest.raises(SparsityError, match="'tpu' is none of the known targets a100-80gb, "):
        known("tpu")
