"""When a sparse kernel is worth it: a model of times, with constants that were measured.

Decoding is bound by how fast weights are read, so a kernel's time is what a call costs, plus the
bytes it reads over the bandwidth it reaches, plus what every further row adds:

    dense:  t0 + B / bandwidth            + (rows - 1) B / row_bandwidth
    sparse: t0 + union B / bandwidth      + (rows - 1) active B / row_bandwidth

with B the bytes of the weights, ``active`` the fraction of channels that a row keeps, and
``union`` = 1 - (1 - active)^rows the fraction that some row keeps if rows choose independently.
The constants are in ``dispatch.json``, which ``python ci/measure_dispatch.py`` writes, with the
machine and the day they are from.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from pytest_sparsity.kernels.registry import Kernel
from pytest_sparsity.reference.operands import MAX_ROWS

#: The entry of a table that is not a sparse kernel: ``torch.nn.functional.linear``.
DENSE = "dense"

#: How much faster a sparse kernel must be by the model, which is right to within about that.
MARGIN = 1.15
_DEVICE = {"cpu": "cpu", "native": "cpu", "triton": "cuda", "cuda": "cuda"}
_WIDTH = {"float32": 4, "bfloat16": 2, "float16": 2}  # bytes per weight


@dataclass(frozen=True)
class CostModel:
    """Constants of one kernel for one dtype.

    Attributes:
        t0: seconds that a call takes whatever its size.
        bandwidth: bytes of weights per second with one row.
        row_bandwidth: bytes per second at which every further row passes over its own weights.
    """

    t0: float
    bandwidth: float
    row_bandwidth: float

    def seconds(self, weight_bytes: float, rows: int, active: float = 1.0) -> float:
        """Time of one call; ``active`` is the fraction of channels that each row keeps."""
        union = 1.0 - (1.0 - active) ** rows
        further = (rows - 1) * active * weight_bytes
        return self.t0 + union * weight_bytes / self.bandwidth + further / self.row_bandwidth


#: Costs by kernel name (or ``DENSE``) and dtype name.
Table = Mapping[str, Mapping[str, CostModel]]


@cache
def measured(device: str) -> Table:
    """The shipped constants for ``"cpu"`` or ``"cuda"``; empty where nothing was measured."""
    text = Path(__file__).with_name("dispatch.json").read_text(encoding="utf-8")
    kernels: dict[str, dict[str, dict[str, float]]]
    kernels = json.loads(text)["devices"].get(device, {}).get("kernels", {})
    return {
        name: {dtype: CostModel(**constants) for dtype, constants in by_dtype.items()}
        for name, by_dtype in kernels.items()
    }


def sparse_rows(
    table: Table, name: str, dtype: str, k: int, outputs: Sequence[int], active: float
) -> int:
    """Up to how many rows the kernel ``name`` is faster than dense layers; 0 for never.

    It must win at every number of rows up to that one: a rule that changes its mind twice
    would only follow the noise of its constants.

    Args:
        table: the constants.
        name: the kernel.
        dtype: of weights and activations, for example ``"bfloat16"``.
        k: input channels.
        outputs: outputs of each layer that reads this input; the sparse kernel computes them
            in one call, dense ones take a call each.
        active: fraction of channels that each row keeps.
    """
    dense, sparse = table.get(DENSE, {}).get(dtype), table.get(name, {}).get(dtype)
    if dense is None or sparse is None:
        return 0
    width = _WIDTH[dtype]
    total = k * sum(outputs) * width
    for rows in range(1, MAX_ROWS + 1):
        apart = sum(dense.seconds(k * n * width, rows) for n in outputs)
        if MARGIN * sparse.seconds(total, rows, active) >= apart:
            return rows - 1
    return MAX_ROWS


def best_kernel(
    table: Table,
    names: Sequence[str],
    dtype: str,
    k: int,
    outputs: Sequence[int],
    active: float,
) -> tuple[str, int] | None:
    """The fastest of the kernels ``names`` with one row, and up to how many rows it wins.

    Returns:
        None if dense layers are faster than all of them; arguments as for :func:`sparse_rows`.
    """
    total = k * sum(outputs) * _WIDTH[dtype]
    wins = {
        name: rows
        for name in names
        if (rows := sparse_rows(table, name, dtype, k, outputs, active))
    }
    if not wins:
        return None
    best = min(wins, key=lambda name: table[name][dtype].seconds(total, 1, active))
    return best, wins[best]


def obstacle(kernel: Kernel, device: str, dtype: str) -> str | None:
    """Why a kernel cannot take weights of a dtype on a device (``"cpu"``, ``"cuda"``), or None."""
    runs_on = _DEVICE.get(kernel.backend, device)
    if runs_on != device:
        return f"{kernel.id} runs on {runs_on}, and the weights are on {device}"
    if dtype not in kernel.dtypes:
        return f"{kernel.id} takes {', '.join(kernel.dtypes)}, and the weights are {dtype}"
    return kernel.unavailable()
