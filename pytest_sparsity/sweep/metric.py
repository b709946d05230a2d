"""One metric of one cell, and which measurements of two records belong together."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from pytest_sparsity.core.statistics import Bounds, Interval
from pytest_sparsity.sweep.cell import Cell
from pytest_sparsity.sweep.record import Record

#: What a unit's share, a difference of two shares, and what cannot be negative can be.
SHARE: Bounds = (0.0, 1.0)
DIFFERENCE: Bounds = (-1.0, 1.0)
NOT_NEGATIVE: Bounds = (0.0, math.inf)


@dataclass(frozen=True)
class Comparison:
    """One metric of one cell.

    Attributes:
        cell: what was measured.
        metric: its name, see the table below.
        value: the metric itself.
        change: the damage against dense on the same documents or items, positive when
            worse; None for the dense model itself, as it was loaded.
        p_value: exact McNemar test, for shares of items right.
        chance: share right by guessing, for shares of items right.
        refused: why the task is no evidence on this model, for what is measured by items
            right or wrong; empty if it is.
        dense: the metric of the dense model on the same documents or items, of which it may have
            more; None of the dense model itself, and of what dense has no value of.

    ==================== ============================= =================================
    metric               value                         change
    ==================== ============================= =================================
    perplexity:CORPUS    exp(mean NLL per token)       relative: 0.03 is +3 %
    kl:CORPUS            KL(dense || sparse), nats     the same
    agreement:CORPUS     share of tokens whose most    1 - value
                         likely next token is dense's
    recovery:CORPUS      share of the method's loss    none: it is a gain, not a damage
                         in log-perplexity that SPON
                         wins back
    accuracy:TASK        share of items right          drop, in share: 0.02 is 2 points
    exact_match:TASK     share of items whose          drop, in share
                         generated answer is right
    path:TASK            greedy tokens before the      share of dense's tokens off the
                         first one off dense's text    path
    answer_greedy:TASK   share of items whose answer   drop, in share
                         is the greedy one after the
                         reference chain
    answer_nll:TASK      NLL per token of the answer   increase, nats
                         after the reference chain
    chain_nll:TASK       NLL per token of that chain   increase, nats
    kl_reasoning:TASK    KL(dense || sparse) per       the same
                         token of chain and answer
    kl_prose:TASK        the same on prose at the      the same
                         same positions
    kl_ratio:TASK        the first over the second     none: 1 is no difference
    path:generation      greedy tokens before the      share of tokens off the path
                         first one off dense's path
    ==================== ============================= =================================
    """

    cell: Cell
    metric: str
    value: Interval
    change: Interval | None = None
    p_value: float | None = None
    chance: float | None = None
    refused: str = ""
    dense: float | None = None


def paired(*records: Record) -> list[tuple[dict[str, Any], ...]]:
    """The documents or items that all records have, by id."""
    by_id = [{unit["id"]: unit for unit in record.units} for record in records]
    common = [i for i in by_id[0] if all(i in other for other in by_id[1:])]
    return [tuple(units[i] for units in by_id) for i in common]
