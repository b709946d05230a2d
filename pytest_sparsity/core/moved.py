"""What was moved: for one release the old names work, with a warning that tells the new one."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from types import CodeType, ModuleType
from typing import Any

_PACKAGE = "pytest_sparsity"
#: Old name to new one, below this package; a package stands for what is in it, unless that is here.
MOVED = {
    "accuracy_gate": "plugin.accuracy_gate",
    "benchmarking": "speed",
    "benchmarking.gate.companions": "speed.gate.static_metrics",
    "benchmarking.gate.sides": "speed.gate.contenders",
    "benchmarking.gate.speed": "speed.gate.kernel_timer",
    "benchmarking.gate.subject": "speed.gate.workload",
    "benchmarking.interleave": "speed.interleaved",
    "benchmarking.memory": "speed.footprint",
    "checking.finding": "checking.failure",
    "checking.operands": "checking.draw",
    "claim_check": "plugin.claim_check",
    "claims.figures": "claims.page.figures",
    "claims.page_origin": "claims.page.origin",
    "claims.page_parts": "claims.page.parts",
    "claims.page_question": "claims.page.question",
    "claims.page_trials": "claims.page.trial_tables",
    "claims.runs": "claims.page.runs",
    "claims.trials": "claims.page.trials",
    "claims.watch": "claims.cell_progress",
    "compression": "models.compression",
    "controller": "plugin.reporter",
    "degradation": "plugin.degradation",
    "errors": "core.errors",
    "evaluation.asked": "evaluation.resolve_task",
    "evaluation.decoding": "speed.decoding",
    "files": "core.files",
    "gatekeeper": "plugin.reporter",
    "history": "reporting.history",
    "hookspec": "plugin.hookspec",
    "kernel_check": "plugin.kernel_check",
    "methods.exact": "methods.topk_mask",
    "option_table": "settings.options",
    "option_values": "settings.parsing",
    "options": "settings.settings",
    "paired_benchmark": "plugin.paired_benchmark",
    "parametrize": "plugin.parametrize",
    "performance": "speed",
    "progress": "core.progress",
    "reporting.benchmark_json": "speed.gate.benchmark_json",
    "revision": "core.git",
    "sanity": "fixtures",
    "speed_controller": "plugin.reporter",
    "speed_gate": "plugin.speed_gate",
    "spon": "methods.spon",
    "state": "plugin.state",
    "stats": "core.statistics",
    "sweep.sources": "sweep.code_hash",
    "tensor_file": "core.tensor_file",
    "terminal": "plugin.terminal",
    "termination": "core.signals",
    "timing": "speed",
    "timing.interleave": "speed.interleaved",
    "worktree": "core.worktree",
}
#: Module that ``python -m`` ran, below this package, to the subcommand that took its place.
COMMANDS = {
    "history": ("history",),
    "predictors": ("train", "predictors"),
    "targets.__main__": ("targets",),
}

_FIXTURES = "AccuracyGate Cell ClaimCheck Configuration Degradation HardwareTarget KernelCheck"
_FIXTURES += " PairedBenchmark Settings SpeedGate SweepSession"
_TESTING = "Case Kernel KernelFailure check_kernel sparse_kernel strategies"
#: Public module to its names that were moved, and where to.
NAMES = {
    "pytest_sparsity": {
        **{name: f"pytest_sparsity.fixtures.{name}" for name in _FIXTURES.split()},
        **{name: f"pytest_sparsity.testing.{name}" for name in _TESTING.split()},
        **{name: f"pytest_sparsity.results.{name}" for name in ("Outcome", "Record", "Verdict")},
    },
}


def moved_name(module: str, name: str) -> str | None:
    """The new name of what was public in a module, with a warning; None if it was not.

    Called by the module's ``__getattr__``, whose caller the warning points at.
    """
    new = NAMES.get(module, {}).get(name)
    # ``from package import name`` first looks whether the name is there, and then takes it.
    looked = sys._getframe(2).f_code.co_name == "_handle_fromlist"
    if new is not None and not looked:
        _warn(f"{module}.{name}", new, stacklevel=4)
    return new


def _warn(old: str, new: str, stacklevel: int) -> None:
    import warnings

    warnings.warn(
        f"{old} is {new} now; the old name goes with the next release",
        DeprecationWarning,
        stacklevel=stacklevel,
    )


def new_name(old: str) -> str | None:
    """Where a module is now, below this package; None if it was not moved."""
    package, _, module = old.rpartition(".")
    if old in MOVED or not package:
        return MOVED.get(old)
    above = new_name(package)
    return above and f"{above}.{module}"


class _Finder:
    """Finds a module under its old name."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        package, _, old = name.partition(".")
        if package != _PACKAGE or not (new_name(old) or old in COMMANDS):
            return None
        loader: Any = _Loader(old)
        return ModuleSpec(name, loader, origin=name)


class _Loader:
    """Gives the module under its new name, and says so."""

    def __init__(self, old: str) -> None:
        self._old = old
        self._own: ModuleSpec | None = None

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        from importlib import import_module

        if (name := new_name(self._old)) is None:
            return None  # there was nothing to import
        new = f"{_PACKAGE}.{name}"
        _warn(spec.name, new, stacklevel=3)
        found = import_module(new)
        self._own = found.__spec__
        return found

    def exec_module(self, module: ModuleType) -> None:
        if self._own is not None:
            module.__spec__ = self._own  # which importing it under the old name has replaced

    def get_code(self, name: str) -> CodeType:
        """What ``python -m`` runs: the subcommand that took the module's place."""
        if self._old not in COMMANDS:
            raise ImportError(f"{name} was never a command")
        words = COMMANDS[self._old]
        if words == ("targets",) and "--list" in sys.argv:
            sys.argv.remove("--list")
            words = ("list", "targets")
        program = f"from pytest_sparsity.cli.main import moved; moved('python -m {name}', *{words})"
        return compile(program.replace(".__main__", ""), name, "exec")


def install() -> None:
    """Find moved modules from now on."""
    finder: Any = _Finder
    if finder not in sys.meta_path:
        sys.meta_path.insert(0, finder)  # first: a moved package has a path of its own
