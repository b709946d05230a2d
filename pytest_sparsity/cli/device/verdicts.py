"""Where a device and what stands for one on a CPU are not of one opinion."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pytest_sparsity.cli.device.part import Result

#: Failures by chance: that the device did not show one is no contradiction.
_BY_CHANCE = ("race", "no defined order", "undefined")


def contradictions(
    on_device: Iterable[Mapping[str, Any]], without: Iterable[Mapping[str, Any]]
) -> list[Result]:
    """Checks of kernels that came out otherwise on the device than without one.

    Args:
        on_device: results of checks, with ``kernel``, ``check``, ``status`` and ``message``.
        without: those of the same checks in the interpreter, emulated or compiled.

    Returns:
        Per contradiction the kernel, the check, both statuses, what failed, and what it means.
        Checks that one of the two skipped are none.
    """
    expected = {(each["kernel"], each["check"]): each for each in without}
    found = []
    for each in on_device:
        other = expected.get((each["kernel"], each["check"]))
        if other is None or "skipped" in (each["status"], other["status"]):
            continue
        if each["status"] == other["status"]:
            continue
        failed = each if each["status"] == "failed" else other
        message = str(failed["message"])
        found.append(
            {
                "kernel": each["kernel"],
                "check": each["check"],
                "device": each["status"],
                "interpreter": other["status"],
                "message": message.splitlines()[0] if message else "",
                "meaning": _meaning(failed is each, message),
            }
        )
    return found


def _meaning(on_device: bool, message: str) -> str:
    if on_device:
        return "missed without a device"
    if any(word in message for word in _BY_CHANCE):
        return "not seen on the device, where it shows by chance"
    return "a false alarm, or not seen on the device"


def differences(
    on_device: Iterable[Mapping[str, Any]], on_cpu: Iterable[Mapping[str, Any]]
) -> dict[str, float]:
    """Largest difference of the mean log-likelihood of a document, in nats, by cell.

    Args:
        on_device: records of a sweep.
        on_cpu: those of the same sweep on a CPU; cells that only one of them has are left out.
    """
    expected = {_cell(record): _means(record) for record in on_cpu}
    found = {}
    for record in on_device:
        other, own = expected.get(_cell(record)), _means(record)
        shared = own.keys() & (other or {}).keys()
        if other is not None and shared:
            found[_cell(record)] = max(abs(own[name] - other[name]) for name in shared)
    return found


def _cell(record: Mapping[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in sorted(record["cell"].items()))


def _means(record: Mapping[str, Any]) -> dict[str, float]:
    """Mean log-likelihood per token by document."""
    return {
        document["id"]: sum(document["log_likelihoods"]) / len(document["log_likelihoods"])
        for document in record["measured"].get("documents", ())
        if document["log_likelihoods"]
    }
