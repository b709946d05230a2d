"""benchmark.json: what was timed, in the format of pytest-benchmark.

``pytest-benchmark compare``, github-action-benchmark (``tool: pytest``) and Bencher (the adapter
``python_pytest``) read it.  The numbers are computed by pytest-benchmark's own ``Stats``, so that
a quartile means there what it means everywhere else.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pytest_sparsity.speed.gate.result import Measured

FILE = "benchmark.json"


def benchmark_json(measured: Iterable[Measured], when: str, folder: Path) -> str:
    """The file's content, strict JSON.

    Args:
        measured: what was timed, in the order to list it.
        when: ISO time, UTC.
        folder: of the git repository that was tested.
    """
    found = list(measured)
    content = {
        "machine_info": _machine(found),
        "commit_info": _commit(folder),
        "benchmarks": [_benchmark(each) for each in found],
        "datetime": when,
        "version": version("pytest-benchmark"),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _benchmark(measured: Measured) -> dict[str, Any]:
    from pytest_benchmark.stats import Stats

    untyped: Any = Stats
    stats = untyped()
    for seconds in measured.seconds:
        stats.update(seconds)
    # A float where pytest-benchmark has the integer 0: Bencher takes nothing else.
    numbers = {
        name: float(value) if name in ("stddev", "iqr", "median", "ops") else value
        for name, value in stats.as_dict().items()
    }
    parameter = "-".join(filter(None, [measured.name, measured.case]))
    path, _, test = measured.test.partition("::")
    name = f"{test.partition('[')[0] or 'speed'}[{parameter}]"
    extra = {
        "best": measured.best,
        "spread": measured.spread,
        "bandwidth": measured.bandwidth,
        "peak_bytes": measured.peak_bytes,
        "target": measured.target,
        "device": measured.device,
        "threads": measured.threads,
        "source": measured.source,
        "partial": measured.partial,
        **measured.static_metrics,
    }
    return {
        "group": measured.name.partition("/")[0],
        "name": name,
        "fullname": f"{path}::{name}" if path else name,
        "params": {"kernel": measured.name, "case": measured.case},
        "param": parameter,
        "extra_info": {name: value for name, value in extra.items() if value is not None},
        "options": {
            "disable_gc": True,
            "timer": "perf_counter",
            "min_rounds": len(measured.seconds),
            "max_time": 0.0,
            "min_time": 0.0,
            "warmup": True,
        },
        "stats": {**numbers, "data": list(measured.seconds), "iterations": measured.iterations},
    }


def _machine(found: list[Measured]) -> dict[str, Any]:
    """What pytest-benchmark says of a machine, without its slow query of the processor's name."""
    device = found[0].device if found else platform.processor()
    return {
        "node": platform.node(),
        "processor": platform.processor(),
        "machine": platform.machine(),
        "python_compiler": platform.python_compiler(),
        "python_implementation": platform.python_implementation(),
        "python_implementation_version": platform.python_version(),
        "python_version": platform.python_version(),
        "python_build": list(platform.python_build()),
        "release": platform.release(),
        "system": platform.system(),
        "cpu": {"brand_raw": device, "brand": device, "vendor_id": "", "hardware": ""},
    }


def _commit(folder: Path) -> dict[str, Any]:
    from pytest_sparsity.core.git import git, revision_of

    revision = revision_of(folder)
    return {
        "id": (revision or "unversioned").removesuffix("+"),
        "time": git(folder, "show", "-s", "--format=%cI") or None,
        "author_time": git(folder, "show", "-s", "--format=%aI") or None,
        "dirty": bool(revision and revision.endswith("+")),
        "project": folder.resolve().name,
        "branch": git(folder, "rev-parse", "--abbrev-ref", "HEAD") or "(unknown)",
    }
