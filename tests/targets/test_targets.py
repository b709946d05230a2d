from __future__ import annotations

import platform
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.targets import HardwareTarget, cuda_targets, host, host_target, resolve_target
from pytest_sparsity.targets.host import parse_cpuinfo

X86 = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 26
model\t\t: 2
model name\t: AMD EPYC
flags\t\t: fpu sse avx2 fma avx512f avx512_bf16 amx_bf16 clzero

processor\t: 1
model name\t: another
flags\t\t: fpu
"""
ARM = """processor\t: 0
BogoMIPS\t: 50.00
Features\t: fp asimd asimddp sve bf16 i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


def test_cpuinfo_of_x86() -> None:
    name, isa = parse_cpuinfo(X86)
    assert name == "AMD EPYC, family 26 model 2"
    assert isa == ("amx_bf16", "avx2", "avx512_bf16", "avx512f", "fma")


def test_cpuinfo_of_arm() -> None:
    name, isa = parse_cpuinfo(ARM)
    assert name == "Arm 0x41 0xd40"
    assert isa == ("bf16", "dotprod", "i8mm", "neon", "sve")


@pytest.fixture
def fresh() -> None:
    """The description of a machine is kept; these tests change the machine."""
    host_target.cache_clear()
    yield
    host_target.cache_clear()


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize(
    ("text", "fast"),
    [(X86, True), (ARM, True), (X86.replace("avx512_bf16 amx_bf16", ""), False)],
)
def test_linux(monkeypatch: pytest.MonkeyPatch, text: str, fast: bool) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Linux")
    monkeypatch.setattr(host, "_read", lambda path: text)
    assert host_target().fast_bfloat16 is fast


@pytest.mark.usefixtures("fresh")
def test_macos_has_bfloat16_but_not_a_fast_one(monkeypatch: pytest.MonkeyPatch) -> None:
    values = {
        "machdep.cpu.brand_string": "Apple M3",
        "hw.optional.neon": "1",
        "hw.optional.arm.FEAT_BF16": "1",
        "hw.optional.avx512f": "0",
    }
    monkeypatch.setattr(platform, "system", lambda: "Darwin")
    monkeypatch.setattr(host, "_sysctl", lambda key: values.get(key, ""))
    target = host_target()
    assert (target.name, target.isa) == ("Apple M3", ("bf16", "neon"))
    assert not target.fast_bfloat16


@pytest.mark.usefixtures("fresh")
def test_anywhere_else_there_is_still_a_target(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "system", lambda: "Plan9")
    monkeypatch.setattr(platform, "processor", lambda: "")
    monkeypatch.setattr(platform, "machine", lambda: "mips")
    target = host_target()
    assert (target.kind, target.name, target.isa) == ("cpu", "mips", ())


def test_this_machine() -> None:
    target = host_target()
    assert target.device == "cpu"
    assert target.cores >= 1
    assert target.memory_bytes > 1 << 28
    assert target is host_target()


def test_the_fingerprint_tells_processors_apart_and_nothing_else() -> None:
    one = HardwareTarget("cpu", "A", ("avx2",), 2, 8, False)
    assert one.fingerprint == HardwareTarget("cpu", "A", ("avx2",), 64, 16, True).fingerprint
    assert one.fingerprint.startswith("cpu-")
    others = [
        HardwareTarget("cpu", "B", ("avx2",), 2, 8, False),
        HardwareTarget("cpu", "A", (), 2, 8, False),
        HardwareTarget("cuda", "A", ("avx2",), 2, 8, False),
    ]
    assert len({one.fingerprint, *(other.fingerprint for other in others)}) == 4


def test_describing_the_host_and_knowing_models_imports_nothing_heavy() -> None:
    program = (
        "import sys, pytest_sparsity.models, pytest_sparsity.targets as t; t.host_target();"
        "print([m for m in ('torch', 'numpy', 'transformers') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    def properties(index: int) -> SimpleNamespace:
        return SimpleNamespace(
            name=f"GPU {index}",
            major=9 if index == 0 else 7,
            minor=0 if index == 0 else 5,
            multi_processor_count=132,
            total_memory=80 << 30,
            **({"L2_cache_size": 50 << 20} if index == 0 else {}),
        )

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_properties", properties)


@pytest.mark.usefixtures("gpus")
def test_gpus_are_described() -> None:
    first, second = cuda_targets()
    assert (first.device, first.isa, first.fast_bfloat16) == ("cuda:0", ("sm_90",), True)
    assert (second.device, second.isa, second.fast_bfloat16) == ("cuda:1", ("sm_75",), False)
    assert (first.capability, second.capability) == ((9, 0), (7, 5))
    assert (first.cache_bytes, second.cache_bytes) == (50 << 20, 0)


@pytest.mark.usefixtures("gpus")
def test_an_amd_gpu_has_no_cuda_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "6.2")
    first = cuda_targets()[0]
    assert first.capability is None
    assert first.caches == ()  # torch tells of one die


@pytest.mark.usefixtures("gpus")
@pytest.mark.parametrize(
    ("name", "device"),
    [("auto", "cuda:0"), ("cuda", "cuda:0"), ("cuda:1", "cuda:1"), ("cpu", "cpu")],
)
def test_a_name_finds_its_target(name: str, device: str) -> None:
    assert resolve_target(name).device == device


@pytest.mark.usefixtures("gpus")
def test_a_gpu_too_many_is_one_sentence() -> None:
    with pytest.raises(
        SparsityError, match=r"cuda:2: torch sees 2 CUDA device\(s\); use cpu or auto"
    ):
        resolve_target("cuda:2")


def test_without_a_gpu_auto_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert cuda_targets() == ()
    assert resolve_target("auto") is host_target()
    with pytest.raises(SparsityError, match="--sparsity-target cuda: torch sees no GPU; use cpu"):
        resolve_target("cuda")


@pytest.mark.parametrize("name", ["gpu", "cuda:x", "cuda:-1", "", "CPU"])
def test_a_bad_name_is_one_sentence(name: str) -> None:
    with pytest.raises(SparsityError, match="is not a target; use auto, cpu, cuda or cuda:INDEX"):
        resolve_target(name)
