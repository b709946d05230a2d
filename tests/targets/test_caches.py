from __future__ import annotations

from pathlib import Path

import pytest

from pytest_sparsity.targets import Cache, HardwareTarget
from pytest_sparsity.targets.caches import read_sysctl, read_sysfs


def recorded(folder: Path, caches: dict[int, list[tuple[str, str, str, str]]]) -> Path:
    """A tree like /sys/devices/system/cpu: per CPU its caches' level, type, size and sharers."""
    for cpu, indices in caches.items():
        for number, values in enumerate(indices):
            index = folder / f"cpu{cpu}" / "cache" / f"index{number}"
            index.mkdir(parents=True)
            for name, value in zip(
                ("level", "type", "size", "shared_cpu_list"), values, strict=True
            ):
                (index / name).write_text(f"{value}\n")
    return folder


def core(number: int, l3: str) -> list[tuple[str, str, str, str]]:
    return [
        ("1", "Data", "48K", str(number)),
        ("1", "Instruction", "32K", str(number)),
        ("2", "Unified", "1024K", str(number)),
        ("3", "Unified", "32768K", l3),
    ]


def test_two_cores_that_share_a_cache(tmp_path: Path) -> None:
    folder = recorded(tmp_path, {cpu: core(cpu, "0-1") for cpu in (0, 1)})
    assert read_sysfs(folder, {0, 1}) == (
        Cache(1, 48 << 10, 2),
        Cache(2, 1 << 20, 2),
        Cache(3, 32 << 20, 1),
    )


def test_only_the_caches_of_usable_cores_count(tmp_path: Path) -> None:
    tree = {cpu: core(cpu, "0-1" if cpu < 2 else "2-3") for cpu in range(4)}
    folder = recorded(tmp_path, tree)
    assert read_sysfs(folder, range(4))[-1] == Cache(3, 32 << 20, 2)
    assert read_sysfs(folder, range(4))[-1].total == 64 << 20
    assert read_sysfs(folder, {2, 3})[-1] == Cache(3, 32 << 20, 1)
    assert read_sysfs(folder, {1})[0] == Cache(1, 48 << 10, 1)


def test_a_tree_that_hides_something(tmp_path: Path) -> None:
    folder = recorded(tmp_path, {0: [("2", "Unified", "1M", "0"), ("x", "Unified", "?", "0")]})
    (folder / "cpu0" / "cache" / "index2").mkdir()
    assert read_sysfs(folder, {0, 1}) == (Cache(2, 1 << 20, 1),)
    assert read_sysfs(folder / "nowhere", {0}) == ()


APPLE_CHIP = {
    "hw.perflevel0.physicalcpu": "8",
    "hw.perflevel0.cpusperl2": "4",
    "hw.perflevel0.l1dcachesize": "131072",
    "hw.perflevel0.l2cachesize": "12582912",
    "hw.l1dcachesize": "65536",
}
INTEL_MAC = {
    "hw.physicalcpu": "4",
    "hw.l1dcachesize": "32768",
    "hw.l2cachesize": "262144",
    "hw.l3cachesize": "6291456",
    "hw.packages": "1",
}


@pytest.mark.parametrize(
    ("values", "caches"),
    [
        (APPLE_CHIP, (Cache(1, 128 << 10, 8), Cache(2, 12 << 20, 2))),
        (INTEL_MAC, (Cache(1, 32 << 10, 4), Cache(2, 256 << 10, 4), Cache(3, 6 << 20, 1))),
    ],
    ids=["an Apple chip", "an Intel Mac"],
)
def test_macs(values: dict[str, str], caches: tuple[Cache, ...]) -> None:
    assert read_sysctl(lambda key: values.get(key, "")) == caches


def test_caches_are_no_part_of_the_fingerprint() -> None:
    """Results that were stored before caches were known stay comparable."""
    plain = HardwareTarget("cpu", "AMD EPYC", ("avx2",), 2, 8, False)
    more = HardwareTarget("cpu", "AMD EPYC", ("avx2",), 2, 8, False, 0, (Cache(3, 9, 2),), (9, 0))
    assert more.fingerprint == plain.fingerprint == "cpu-bb74738f435e"
    assert (plain.cache_bytes, more.cache_bytes) == (0, 18)


@pytest.mark.parametrize("cpus", [set(), {7}])
def test_no_such_processor(tmp_path: Path, cpus: set[int]) -> None:
    assert read_sysfs(recorded(tmp_path, {0: core(0, "0")}), cpus) == ()
