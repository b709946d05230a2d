"""Hardware targets: what this machine is, what others are, and what they are good at."""

from pytest_sparsity.targets.caches import Cache
from pytest_sparsity.targets.cuda import cuda_targets
from pytest_sparsity.targets.host import HardwareTarget, host_target
from pytest_sparsity.targets.resolve import resolve_target

__all__ = ["Cache", "HardwareTarget", "cuda_targets", "host_target", "resolve_target"]
