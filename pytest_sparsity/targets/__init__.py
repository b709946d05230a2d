"""Hardware targets: what this machine is and what it is good at."""

from pytest_sparsity.targets.cuda import cuda_targets
from pytest_sparsity.targets.host import HardwareTarget, host_target
from pytest_sparsity.targets.resolve import resolve_target

__all__ = ["HardwareTarget", "cuda_targets", "host_target", "resolve_target"]
