"""The registered kernels, those of entry points among them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_sparsity.cli.kinds.kind import Item, Kind, yes

if TYPE_CHECKING:
    from pytest_sparsity.kernels.registry import Kernel


def _items() -> list[Item]:
    from pytest_sparsity.kernels.registry import registered
    from pytest_sparsity.targets import cuda_targets

    here = ("cpu", "cuda") if cuda_targets() else ("cpu",)
    return [_item(kernel, here) for _, kernel in sorted(registered().items())]


def _item(kernel: Kernel, here: tuple[str, ...]) -> Item:
    from pytest_sparsity.kernels.dispatch import obstacle

    missing = kernel.unavailable()
    # What stands in the way on a device of its own is only what is missing.
    own = [d for d in ("cpu", "cuda") if obstacle(kernel, d, kernel.dtypes[0]) == missing]
    if not missing and not set(own) & set(here):
        missing = f"needs {' or '.join(own)}, which is not here"
    return {
        "id": kernel.id,
        "op": kernel.op,
        "name": kernel.name,
        "backend": kernel.backend,
        "devices": own,
        "dtypes": list(kernel.dtypes),
        "max_rows": kernel.max_rows,
        "accumulate": kernel.accumulate,
        "deterministic": kernel.deterministic,
        "skips": kernel.skips,
        "module": kernel.module,
        "runs_here": missing is None,
        "why_not": missing or "",
    }


KIND = Kind(
    items=_items,
    columns={
        "kernel": lambda item: item["id"],
        "backend": lambda item: item["backend"],
        "dtypes": lambda item: ", ".join(item["dtypes"]),
        "rows": lambda item: f"1-{item['max_rows']}",
        "skips": lambda item: yes(item["skips"]),
        "deterministic": lambda item: yes(item["deterministic"]),
        "runs here": lambda item: "yes" if item["runs_here"] else f"no: {item['why_not']}",
    },
    notes=(
        "skips: weights of skipped channels are not read. What cannot run here is checked all the "
        "same where it can be: Triton's interpreted and compiled, CUDA's compiled.",
        "Kernels that a conftest.py registers are known to pytest only; those of the entry-point "
        "group pytest_sparsity.kernels are here.",
    ),
)
