"""``pytest-sparsity device``: what only a GPU can tell, in parts that are kept.

Time on a device is short: each part is a step of a minute or less, its result is kept in a file,
and the command goes on where it stopped.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_sparsity.cli.parser import Parser, writing
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode

if TYPE_CHECKING:
    from pytest_sparsity.cli.device.part import Part, Progress
    from pytest_sparsity.cli.device.runner import Runner

SUMMARY = "check and time kernels on a CUDA device, in parts that are kept, and write receipts"
BACKENDS = ("cuda", "triton")


def add_arguments(parser: Parser) -> None:
    """Time, folders, and what is brought from a machine without a device."""
    parser.epilog = (
        "Started again it goes on: a part is done once per device, versions and sources. What a "
        "device contradicts is known once the same checks ran without one: here, after everything "
        "else, or before, on any machine, by pytest --sparsity-sweep."
    )
    add = parser.add_argument
    add("--minutes", type=float, default=10.0, help="that it may take; what is left, next time")
    add("--folder", type=Path, default=Path("sparsity-device"), help="results of the parts")
    add("--receipts", type=Path, default=Path("ci/receipts"), help="for the receipt and its page")
    add("--verdicts", type=Path, metavar="FILE", help="kernels.jsonl of a run without a device")
    add("--records", type=Path, metavar="FILE", help="records.jsonl of the sweep on a CPU")
    add("--model", default="relu-4m", help="of the sweep; the default needs no download")
    add("--only", default="", metavar="TEXT", help="parts whose name holds TEXT")
    add("--plan", action="store_true", help="list the parts and their seconds, and do nothing")


def run(given: argparse.Namespace) -> ExitCode:
    """Do what is left to do, as far as the time goes."""
    if not 0 < given.minutes < float("inf"):
        raise SparsityError(f"--minutes {given.minutes}: a number of minutes above 0, such as 10")
    parts = _parts(given)
    if given.plan:
        print("\n".join(f"{part.seconds:4.0f} s  {part.name}" for part in parts))
        print(
            f"{sum(part.seconds for part in parts) / 60:.0f} minutes at most, in any number of runs"
        )
        return ExitCode.OK
    from pytest_sparsity.cli.device.runner import ThisMachine

    return conduct(given, parts, ThisMachine(), time.monotonic)


def _parts(given: argparse.Namespace) -> list[Part]:
    from pytest_sparsity.cli.device.part import read_lines
    from pytest_sparsity.cli.device.parts import Choices, parts
    from pytest_sparsity.cli.device.timing import layers
    from pytest_sparsity.kernels.registry import registered

    for option, file in (("--verdicts", given.verdicts), ("--records", given.records)):
        if file is not None:
            read_lines(file, option)  # a mistake is found before the time on the device begins
    choices = Choices(given.folder, given.model, given.verdicts, given.records)
    ops = sorted({kernel.op for kernel in registered().values() if kernel.backend in BACKENDS})
    found = [part for part in parts(choices, ops, list(layers())) if given.only in part.name]
    if not found:
        raise SparsityError(f"--only {given.only!r}: no part's name has it; see --plan")
    return found


def conduct(
    given: argparse.Namespace, parts: list[Part], runner: Runner, clock: Callable[[], float]
) -> ExitCode:
    """Go through the parts on a machine, write the receipt, and say how it ended."""
    from pytest_sparsity.cli.device.part import Store, go_through
    from pytest_sparsity.core.provenance import versions
    from pytest_sparsity.kernels.sources import sources_hash

    key = {
        "device": runner.device,
        "versions": versions(),
        "sources": {backend: sources_hash(backend) for backend in BACKENDS},
    }
    with writing("--folder", given.folder):
        store = Store(given.folder, key)
        found = go_through(parts, runner, store, 60 * given.minutes, clock, print)
    if not found.results:
        print("nothing was done: there was too little time for any part")
        return ExitCode.NOTHING
    with writing("--receipts", given.receipts):
        print(f"wrote {_write(given, runner.device, found)}")
    if any(result["status"] == "failed" for result in found.results.values()):
        return ExitCode.FAILED
    if found.left:
        print(f"{len(found.left)} of {len(parts)} parts are left: start it again")
        return ExitCode.UNDECIDED
    return ExitCode.OK


def _write(given: argparse.Namespace, device: str, found: Progress) -> Path:
    """The receipt and its page; returns the page."""
    from pytest_sparsity.cli.device.page import page
    from pytest_sparsity.core.files import atomic_write
    from pytest_sparsity.core.provenance import versions
    from pytest_sparsity.speed.receipts import write_receipt

    # Records are large, and what came of them is in the comparison.
    figures = {
        name: {key: value for key, value in result.items() if key != "records"}
        for name, result in found.results.items()
    }
    receipt = write_receipt(
        given.receipts,
        "device",
        device=device,
        command="pytest-sparsity device",
        backends=BACKENDS,
        figures={"parts": figures, "left": dict(found.left)},
    )
    today = datetime.now(timezone.utc).date().isoformat()
    target = receipt.with_suffix(".md")
    atomic_write(target, page(device, today, versions(), found))
    return target
