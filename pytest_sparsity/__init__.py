"""Regression tests for sparse language models and their kernels, as a pytest plugin."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_sparsity import _moved

if TYPE_CHECKING:
    from pytest_sparsity.checking import strategies
    from pytest_sparsity.checking.api import KernelFailure, check_kernel
    from pytest_sparsity.checking.case import Case
    from pytest_sparsity.compression.compress import compress
    from pytest_sparsity.core.errors import SparsityError, SparsityWarning
    from pytest_sparsity.kernels.registry import Kernel, sparse_kernel
    from pytest_sparsity.methods.attach import Attached, sparsify
    from pytest_sparsity.methods.calibrator import Calibrator
    from pytest_sparsity.methods.plan import Plan, Selector, Threshold
    from pytest_sparsity.methods.prefill import PrefillPolicy
    from pytest_sparsity.models import LanguageModel, Site, load_model
    from pytest_sparsity.plugin.accuracy_gate import AccuracyGate
    from pytest_sparsity.plugin.claim_check import ClaimCheck
    from pytest_sparsity.plugin.degradation import Degradation
    from pytest_sparsity.plugin.kernel_check import KernelCheck
    from pytest_sparsity.plugin.paired_benchmark import PairedBenchmark
    from pytest_sparsity.plugin.speed_gate import SpeedGate
    from pytest_sparsity.settings.settings import Settings
    from pytest_sparsity.spon.vectors import SpontaneousVectors
    from pytest_sparsity.sweep import sanity
    from pytest_sparsity.sweep.cell import Cell, Configuration
    from pytest_sparsity.sweep.record import Record
    from pytest_sparsity.sweep.session import SweepSession
    from pytest_sparsity.sweep.verdict import Outcome, Verdict
    from pytest_sparsity.targets import HardwareTarget

_HOME = {
    "AccuracyGate": "plugin.accuracy_gate",
    "Attached": "methods.attach",
    "Calibrator": "methods.calibrator",
    "Case": "checking.case",
    "Cell": "sweep.cell",
    "ClaimCheck": "plugin.claim_check",
    "Configuration": "sweep.cell",
    "Degradation": "plugin.degradation",
    "HardwareTarget": "targets",
    "Kernel": "kernels.registry",
    "KernelCheck": "plugin.kernel_check",
    "KernelFailure": "checking.api",
    "LanguageModel": "models",
    "Outcome": "sweep.verdict",
    "PairedBenchmark": "plugin.paired_benchmark",
    "Plan": "methods.plan",
    "PrefillPolicy": "methods.prefill",
    "Record": "sweep.record",
    "Selector": "methods.plan",
    "Settings": "settings.settings",
    "Site": "models",
    "SparsityError": "core.errors",
    "SparsityWarning": "core.errors",
    "SpeedGate": "plugin.speed_gate",
    "SpontaneousVectors": "spon.vectors",
    "SweepSession": "sweep.session",
    "Threshold": "methods.plan",
    "Verdict": "sweep.verdict",
    "check_kernel": "checking.api",
    "compress": "compression.compress",
    "load_model": "models",
    "sparse_kernel": "kernels.registry",
    "sparsify": "methods.attach",
}

_MODULES = {"sanity": "sweep.sanity", "strategies": "checking.strategies"}

__all__ = [
    "AccuracyGate",
    "Attached",
    "Calibrator",
    "Case",
    "Cell",
    "ClaimCheck",
    "Configuration",
    "Degradation",
    "HardwareTarget",
    "Kernel",
    "KernelCheck",
    "KernelFailure",
    "LanguageModel",
    "Outcome",
    "PairedBenchmark",
    "Plan",
    "PrefillPolicy",
    "Record",
    "Selector",
    "Settings",
    "Site",
    "SparsityError",
    "SparsityWarning",
    "SpeedGate",
    "SpontaneousVectors",
    "SweepSession",
    "Threshold",
    "Verdict",
    "check_kernel",
    "compress",
    "load_model",
    "sanity",
    "sparse_kernel",
    "sparsify",
    "strategies",
]

_moved.install()


def __getattr__(name: str) -> Any:
    # Looked up on demand: this file is imported by every pytest session of every user.
    if name == "__version__":
        from importlib.metadata import version

        return version("pytest-sparsity")
    from importlib import import_module

    if name in _MODULES:
        return import_module(f"{__name__}.{_MODULES[name]}")
    if name in _HOME:
        return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
