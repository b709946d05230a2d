"""What Triton's interpreter and compiler have in common here: both run without a GPU.

Checks of Triton kernels replace a few functions inside Triton.  They are named and compared
with what was expected before anything is replaced, so that a new version of Triton that moved
them fails with a sentence instead of a wrong verdict.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.autotuner import Autotuner

from pytest_sparsity.checking import pretended_cuda
from pytest_sparsity.checking.pretended_tensors import CUDA
from pytest_sparsity.core.errors import SparsityError

#: Of Triton; the last one that all checks were run with.
KNOWN = "3.9.0"

#: Chooses, among the configurations of an autotuned kernel that fit its operands, those to run.
Choice = Callable[[Sequence[Any]], Sequence[Any]]


def method(owner: Any, name: str, *parameters: str) -> Any:
    """The function ``name`` of ``owner``, whose first parameters must be ``parameters``.

    Raises:
        SparsityError: it is not there, or takes something else.
    """
    found = getattr(owner, name, None)
    if callable(found) and list(inspect.signature(found).parameters)[: len(parameters)] == list(
        parameters
    ):
        return found
    takes = "nothing of that name" if found is None else f"{name}{inspect.signature(found)}"
    where = owner.__name__ if inspect.ismodule(owner) else f"{owner.__module__}.{owner.__name__}"
    raise SparsityError(
        f"triton {triton.__version__}: expected {where}.{name}"
        f"({', '.join(parameters)}, ...), found {takes}; checks of Triton kernels are known to "
        f"work with triton {KNOWN}, install that version"
    )


class PretendDriver:
    """Answers what Triton and a kernel's wrapper ask a driver, for a GPU that is not there."""

    def __init__(self, arch: int) -> None:
        """Stand for a GPU of compute capability ``arch``, 90 for sm_90."""
        self._target = GPUTarget("cuda", arch, 32)
        self.utils = SimpleNamespace(get_device_properties=pretended_cuda.triton_properties)

    def get_current_target(self) -> GPUTarget:
        """What kernels are compiled for."""
        return self._target

    def get_current_device(self) -> int:
        """The number of the only one."""
        return 0

    def get_current_stream(self, device: int) -> int:
        """The default one."""
        return 0

    def get_device_capability(self, device: int = 0) -> tuple[int, int]:
        """Major and minor, 9 and 0 of sm_90."""
        major, minor = divmod(self._target.arch, 10)
        return major, minor

    def set_current_device(self, device: int) -> None:
        """There is one device."""

    def get_active_torch_device(self) -> torch.device:
        """Where wrappers put tensors."""
        return CUDA

    def get_device_interface(self) -> Any:
        """The module of torch for it."""
        return torch.cuda


def use_device(arch: int) -> None:
    """From now on, let torch and Triton believe in a GPU of compute capability ``arch``."""
    pretended_cuda.install(arch)
    driver.set_active(PretendDriver(arch))


def pin_autotuners(choose: Choice) -> None:
    """From now on, let autotuned kernels run with the configurations of ``choose``, untimed.

    Timing them needs a driver.  Triton does not time a kernel that has one configuration, so
    each is made the only one in turn; as in a kernel whose tuning is done, ``reset_to_zero`` then
    has no effect, and a kernel that relies on it is wrong from its second call on.
    """
    run = method(Autotuner, "run", "self", "args", "kwargs")
    prune = method(Autotuner, "prune_configs", "self", "kwargs")

    def pinned(self: Any, *args: Any, **kwargs: Any) -> Any:
        everything = self.configs
        self.nargs = dict(zip(self.arg_names, args, strict=False))
        result = None
        try:
            for config in choose(prune(self, kwargs)):
                self.configs = [config]
                result = run(self, *args, **kwargs)
        finally:
            self.configs = everything
        return result

    Autotuner.run = pinned
