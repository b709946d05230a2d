from __future__ import annotations

from collections.abc import Callable

import pytest
import torch  # noqa: F401  # before pytester, which would have each run import it anew

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.targets import HardwareTarget, requirements
from pytest_sparsity.targets.requirements import check_requirement, missing

Machine = Callable[..., None]
HOST = HardwareTarget("cpu", "some CPU", ("avx2", "fma"), 2, 16 * 10**9, False)


def gpu(name: str, gigabytes: float, capability: tuple[int, int] | None) -> HardwareTarget:
    return HardwareTarget("cuda", name, (), 108, int(gigabytes * 1e9), True, capability=capability)


A6000 = gpu("NVIDIA RTX A6000", 50.9, (8, 6))
H100 = gpu("NVIDIA H100 80GB HBM3", 85, (9, 0))
MI300X = gpu("AMD Instinct MI300X", 206, None)


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes this machine one with these GPUs."""

    def make(*gpus: HardwareTarget) -> None:
        monkeypatch.setattr(requirements, "host_target", lambda: HOST)
        monkeypatch.setattr(requirements, "cuda_targets", lambda: gpus)

    return make


@pytest.mark.parametrize(
    ("requirement", "gpus"),
    [
        ("auto", ()),
        ("cpu", ()),
        ("cuda", (A6000,)),
        ("cuda:1", (A6000, H100)),
        ("cuda>=90", (A6000, H100)),
        ("cuda>=9.0", (H100,)),
        ("cuda>=80", (A6000,)),
        ("cuda:memory>=40GB", (A6000,)),
        ("cuda:memory>=79GiB", (A6000, H100)),
        ("cpu:memory>=16GB", ()),
        ("cpu:avx2", ()),
        ("h100", (A6000, H100)),
        ("h100-sxm", (H100,)),
        ("mi300x", (MI300X,)),
    ],
)
def test_met(here: Machine, requirement: str, gpus: tuple[HardwareTarget, ...]) -> None:
    here(*gpus)
    assert missing(requirement) is None


@pytest.mark.parametrize(
    ("requirement", "gpus", "reason"),
    [
        ("cuda", (), "needs cuda, this machine has no CUDA device"),
        ("cuda:2", (A6000, H100), "needs cuda:2, this machine has 2 CUDA device(s)"),
        (
            *("cuda>=90", ()),
            "needs CUDA compute capability 9.0, this machine has no CUDA device",
        ),
        (
            *("cuda>=90", (A6000,)),
            "needs CUDA compute capability 9.0, the best of this machine is 8.6 (NVIDIA RTX A6000)",
        ),
        (
            *("cuda>=100", (H100,)),
            "needs CUDA compute capability 10.0, the best of this machine is 9.0 "
            "(NVIDIA H100 80GB HBM3)",
        ),
        (
            *("cuda>=90", (MI300X,)),
            "needs CUDA compute capability 9.0, this machine has no CUDA device",
        ),
        (
            *("cuda:memory>=80GB", (A6000,)),
            "needs 80 GB of GPU memory, NVIDIA RTX A6000 has 50.9 GB",
        ),
        (
            *("cuda:memory>=40GB", ()),
            "needs 40 GB of GPU memory, this machine has no CUDA device",
        ),
        ("cpu:memory>=64GB", (), "needs 64 GB of memory, this machine has 16.0 GB"),
        (
            *("cpu:avx512_bf16", ()),
            "needs a CPU with avx512_bf16, this one (some CPU) has avx2, fma",
        ),
        (
            *("h100", (A6000,)),
            "needs NVIDIA H100 SXM or NVIDIA H100 PCIe, this machine has NVIDIA RTX A6000",
        ),
        ("h200", (), "needs NVIDIA H200, this machine has no CUDA device"),
        ("apple-m3", (), "needs Apple M3 (CPU), this machine has some CPU"),
    ],
)
def test_exactly_what_is_missing(
    here: Machine, requirement: str, gpus: tuple[HardwareTarget, ...], reason: str
) -> None:
    here(*gpus)
    assert missing(requirement) == reason


@pytest.mark.parametrize(
    "requirement",
    [
        *(
            "",
            "nope",
            "CPU",
            "cuda:-1",
            "cuda>=",
            "cuda>=9",
            "cuda>90",
            "cuda>=sm_90",
            "cuda >= 90",
        ),
        *("cuda:memory>=40", "cuda:memory>=40MB", "cuda:memory>40GB", "cuda:memory>=GB"),
        *(3, None, ["cuda"]),
    ],
)
def test_what_is_no_requirement_is_one_sentence(requirement: object) -> None:
    with pytest.raises(SparsityError, match=r"is none of auto, cpu, cuda, cuda:INDEX, cuda>=90"):
        check_requirement(requirement)


def test_an_instruction_set_that_does_not_exist() -> None:
    with pytest.raises(SparsityError, match="'avx513' is none of the instruction sets amx_bf16, "):
        check_requirement("cpu:avx513")


def test_looking_at_the_form_looks_at_no_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "cuda_targets", lambda: pytest.fail("looked"))
    for requirement in ("cuda", "cuda>=90", "cuda:memory>=40GB", "h100"):
        check_requirement(requirement)


def test_markers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.sparsity(target="cpu")
        def test_runs(): pass

        @pytest.mark.sparsity(target="cuda>=990")
        def test_capability(): pass

        @pytest.mark.sparsity(target="cpu:memory>=999999GB")
        class TestAll:
            def test_memory(self): pass
        """
    )
    result = pytester.runpytest_inprocess("-rs", "--strict-markers")
    result.assert_outcomes(passed=1, skipped=2)
    result.stdout.fnmatch_lines_random(
        [
            "SKIPPED * test_markers.py:6: needs CUDA compute capability 99.0, *this machine*",
            "SKIPPED * test_markers.py: needs 999999 GB of memory, this machine has * GB",
        ]
    )


def test_strict_fails_an_absent_target(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.sparsity(target="cuda:99")
        def test_it(): pass

        @pytest.mark.skip(reason="not ours")
        def test_other(): pass
        """
    )
    result = pytester.runpytest_inprocess("--sparsity-strict")
    result.assert_outcomes(errors=1, skipped=1)
    result.stdout.fnmatch_lines(["--sparsity-strict: *needs cuda:99, this machine has *"])


def test_a_marker_of_its_own_does_not_hide_the_one_of_the_class(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.sparsity(target="cuda:99")
        class TestAll:
            @pytest.mark.sparsity(levels=[0.5])
            def test_levels(self): pass

            @pytest.mark.sparsity(target="cpu")
            def test_target(self): pass
        """
    )
    result = pytester.runpytest_inprocess("-rs")
    result.assert_outcomes(skipped=2)
    result.stdout.fnmatch_lines(["SKIPPED*needs cuda:99, this machine has *"])


def test_reasons_arrive_from_workers(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.sparsity(target="cuda:99")
        def test_device(): pass

        @pytest.mark.sparsity(target="cpu")
        def test_here(hardware_target):
            assert hardware_target.device == "cpu"
        """
    )
    result = pytester.runpytest_subprocess("-rs", "-n2")
    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*test_reasons*.py:3: needs cuda:99, this machine has *"])


def test_a_malformed_marker_is_an_error_of_collection(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import pytest

        @pytest.mark.sparsity(target="cpu:avx513")
        def test_x(): pass
        """
    )
    result = pytester.runpytest_inprocess()
    output = result.stdout.str() + result.stderr.str()
    assert "test_x: @pytest.mark.sparsity: target 'cpu:avx513': 'avx513' is none of" in output
    assert "errors.py" not in output  # no traceback
