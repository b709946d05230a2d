"""What the tests of mutants share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

sys.path.insert(0, str(Path(__file__).parent))

if TYPE_CHECKING:
    from mutation import Mutant

    from pytest_sparsity.checking.runner import CheckResult


@pytest.fixture
def killed(own_kernels: None) -> Callable[[Mutant], CheckResult]:
    """Returns how the suite finds a mutant wrong; skips where its kernel cannot run.

    All checks are run until one fails, that one first which did so before: it takes a tenth of
    the time.
    """
    from pytest_sparsity.checking.api import _import
    from pytest_sparsity.checking.checks import CHECKS
    from pytest_sparsity.kernels import registry
    from pytest_sparsity.testing import KernelFailure, check_kernel

    def kill(mutant: Mutant) -> CheckResult:
        module = mutant.module()
        _import(module)
        reason = registry.kernel(mutant.id).unavailable()
        if reason is not None:
            pytest.skip(reason)
        order = sorted(CHECKS, key=lambda check: check != mutant.killer)
        with pytest.raises(KernelFailure) as caught:
            check_kernel(mutant.id, order, module=module)
        return caught.value.outcome

    return kill
