"""``python -m pytest_sparsity.cli.device.probes``: what the suite says of the probes, in JSON."""

from __future__ import annotations

import json

from pytest_sparsity.checking.api import KernelFailure, check_kernel
from pytest_sparsity.cli.device import probe_kernels

CHECKS = ("edges", "fuzz")


def main() -> None:
    """Print a line per probe and check, with the keys of ``kernels.jsonl`` that are compared."""
    for name, right in probe_kernels.PROBES.items():
        for check in CHECKS:
            kernel, status, message = f"{probe_kernels.OP}/{name}", "passed", ""
            try:
                check_kernel(kernel, check, examples=40, module=probe_kernels.__name__)
            except KernelFailure as failure:
                status, message = "failed", str(failure)
            found = {"kernel": kernel, "check": check, "status": status, "message": message}
            print(json.dumps({**found, "right": right}), flush=True)


if __name__ == "__main__":
    main()
