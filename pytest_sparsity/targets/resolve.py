"""From what the user asked for to a target that exists."""

from __future__ import annotations

import re

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.targets.cuda import cuda_targets
from pytest_sparsity.targets.host import HardwareTarget, host_target


def is_target(name: str) -> re.Match[str] | None:
    """Whether ``name`` can be a target's on some machine; its first group is the index."""
    return re.fullmatch(r"auto|cpu|cuda(?::(\d+))?", name)


def resolve_target(name: str = "auto", option: str = "--sparsity-target") -> HardwareTarget:
    """The target a user named.

    Args:
        name: ``"auto"`` (the first GPU, else the CPU), ``"cpu"``, ``"cuda"`` or ``"cuda:1"``.
        option: where the user named it, for complaints.

    Raises:
        SparsityError: the name is none of these, or this machine has no such device.
    """
    wanted = is_target(name)
    if wanted is None:
        raise SparsityError(f"{option} {name!r} is not a target; use auto, cpu, cuda or cuda:INDEX")
    if name == "cpu":
        return host_target()
    devices = cuda_targets()
    if name == "auto":
        return devices[0] if devices else host_target()
    index = int(wanted.group(1) or 0)
    if index >= len(devices):
        found = f"torch sees {len(devices)} CUDA device(s)" if devices else "torch sees no GPU"
        raise SparsityError(
            f"{option} {name}: {found}; use cpu or auto, or install a CUDA build of torch "
            "and check that nvidia-smi lists the device"
        )
    return devices[index]
