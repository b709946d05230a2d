"""All mutants."""

from __future__ import annotations

import mutants_compiled
import mutants_cpu
import mutants_cuda
import mutants_torch
import mutants_triton

MUTANTS = (
    *mutants_triton.MUTANTS,
    *mutants_cpu.MUTANTS,
    *mutants_compiled.MUTANTS,
    *mutants_torch.MUTANTS,
    *mutants_cuda.MUTANTS,
)
