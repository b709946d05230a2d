"""``pytest-sparsity targets``: what sparsity can gain on a machine, at hand or not."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import replace

from pytest_sparsity.cli.parser import Parser
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.targets.machines import machines
from pytest_sparsity.targets.roofline import Machine, Roofline, plan
from pytest_sparsity.targets.work import DTYPES, Format

SUMMARY = "the floor in time, the ideal speed-up and the break-even level of an op on a machine"
_HEAD = ("target", "level", "MB", "floor us", "dense us", "speed-up", "ideal", "break-even")


def add_arguments(parser: Parser) -> None:
    """The op, its shape, and the machines."""
    parser.epilog = "`pytest-sparsity list targets` names the known ones, with their sources."
    add = parser.add_argument
    add("--op", help="one of `pytest-sparsity list ops`; the first of them if not given")
    add("--shape", default="4096x14336", help="input channels x outputs, or neurons of an MLP")
    add("--dtype", default="bfloat16", help=", ".join(DTYPES))
    add("--levels", default="0.25,0.5,0.75", help="fractions that are inactive")
    add("--rows", type=int, default=1, help="tokens at once, with masks of their own")
    add("--target", action="append", help="auto, cpu, cuda:N or a known one; repeat for more")
    add("--threads", type=int, help="of this machine's CPU; default all cores")
    add("--cold", action="store_true", help="weights are in no cache, even if they would fit")
    add("--overhead-us", type=float, help="microseconds of a call, in place of the table's")
    add("--relative", type=float, default=1.0, help="bandwidth of the kernel, part of dense's")
    add("--extra-us", type=float, default=0.0, help="microseconds that sparse takes besides")
    add("--bits", type=int, default=4, help="of sparse_quantized_linear: 8 or 4")
    add("--group", type=int, default=64, help="of sparse_quantized_linear: outputs per scale")
    add("--format", default="2:4", help="of semi_structured_linear")


def run(given: argparse.Namespace) -> ExitCode:
    """Print the table."""
    print(_report(given))
    return ExitCode.OK


def _report(given: argparse.Namespace) -> str:
    from tabulate import tabulate

    from pytest_sparsity.checking.records import records

    if given.threads is not None and given.threads < 1:
        raise SparsityError(f"--threads {given.threads}: at least 1")
    for name in ("overhead_us", "extra_us"):
        if (value := getattr(given, name)) is not None and not 0 <= value < math.inf:
            raise SparsityError(f"--{name.replace('_', '-')} {value}: at least 0 microseconds")
    if not 0 < given.relative < math.inf:
        raise SparsityError(f"--relative {given.relative}: a fraction above 0, such as 0.8")
    shape = _pair("--shape", given.shape, "x", "4096x14336")
    form = Format(given.bits, given.group, *_pair("--format", given.format, ":", "2:4"))
    levels = _levels(given.levels)
    given.op = given.op or next(iter(records()))
    _planned(given, shape, levels[0], _ANY, form)  # a mistake is found before anything is measured
    names = dict.fromkeys(given.target or ["auto"])
    targets = [target for name in names for target in _machines(name, given)]
    lines = [_planned(given, shape, level, m, form) for m in targets for level in levels]
    return "\n".join(
        (
            f"{given.op} {given.shape} {given.dtype}, {given.rows} row(s)",
            tabulate([_row(line) for line in lines], _HEAD, disable_numparse=True),
            *_notes(targets, lines),
            _break_even(given),
            "Floors are limits that no kernel goes below, not forecasts.",
        )
    )


_ANY = Machine("", 1.0)


def _machines(name: str, given: argparse.Namespace) -> tuple[Machine, ...]:
    found = machines(name, given.threads)
    if given.overhead_us is None:
        return found
    return tuple(replace(machine, overhead=given.overhead_us / 1e6) for machine in found)


def _planned(
    given: argparse.Namespace, shape: tuple[int, int], level: float, target: Machine, form: Format
) -> Roofline:
    from pytest_sparsity.checking.records import record

    traffic = record(given.op).traffic
    if traffic is None:
        raise SparsityError(f"--op {given.op!r}: its record has no traffic model")
    return plan(
        *(traffic, shape, given.dtype, level, given.rows, target),
        form=form,
        cold=given.cold,
        relative=given.relative,
        extra=given.extra_us / 1e6,
    )


def _row(line: Roofline) -> tuple[str, ...]:
    named = (line.machine.name, f"{line.level:g}", f"{line.work.total / 1e6:.2f}")
    if line.resident:
        return (*named, "in cache", "in cache", "", f"{line.ideal:.2f}", "")
    even = "never" if line.break_even is None else f"{line.break_even:.0%}"
    floors = (f"{seconds * 1e6:.2f}" for seconds in (line.seconds, line.dense_seconds))
    return (*named, *floors, f"{line.speedup:.2f}", f"{line.ideal:.2f}", even)


def _notes(targets: Sequence[Machine], lines: Sequence[Roofline]) -> list[str]:
    notes = [
        f"{m.name}: {m.bandwidth / 1e9:.0f} GB/s ({m.source}); "
        + (f"{m.overhead * 1e6:.2g} us per call" if m.overhead else "overhead of a call not known")
        for m in targets
    ]
    for m in dict.fromkeys(line.machine for line in lines if line.resident):
        notes.append(
            f"{m.name}: this layer fits into its cache of {(m.cache or 0) / (1 << 20):.0f} MiB. "
            "While its weights stay there no memory bandwidth is used, and the model says nothing "
            "about a speed-up; --cold is for models that as a whole do not fit"
        )
    return notes


def _break_even(given: argparse.Namespace) -> str:
    text = (
        f"Break-even: from this level on, a sparse kernel of {given.relative:.0%} of the dense "
        f"one's bandwidth that takes {given.extra_us:g} us besides is as fast as dense"
    )
    said = given.relative != 1 or given.extra_us
    return f"{text}." if said else f"{text}; --relative and --extra-us are for yours."


def _pair(option: str, text: str, between: str, example: str) -> tuple[int, int]:
    match = re.fullmatch(rf"(\d{{1,9}}){between}(\d{{1,9}})", text)
    if match is None:
        raise SparsityError(f"{option} {text!r} is not of the form {example}")
    return int(match[1]), int(match[2])


def _levels(text: str) -> list[float]:
    try:
        return [float(level) for level in text.split(",")]
    except ValueError:
        raise SparsityError(
            f"--levels {text!r}: give fractions with commas between them, such as 0.25,0.5"
        ) from None
