"""What a regression must show where many kernels are gated in one run.

The rules in :mod:`.rules` are for one kernel: their rates of error were measured
(``docs/gate.md``).  Of a hundred kernels each of which is wrongly called slower once in a hundred
runs, one is in every run.  So beside its rule a regression must be so unlikely by chance that it
holds among all decisions of the run, for which more is measured where there are more of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy import stats

from pytest_sparsity.speed.gate.rules import BLOCK, PROCESSES, SECOND_ROUNDS, block_ratios

#: Blocks beyond those that must all be slower, so that one that is not spoils nothing.
_SPARE = 5
#: Chance that the best time of a process of the same kernel is beyond the tolerance of a stored
#: time.  In docs/gate.md 13 of 102 processes were beyond 10 %, at most 21 % [95 % interval]; the
#: gate's own limit is wider where stored processes differ.
_BEYOND_STORED = 0.2


def second_rounds(level: float) -> int:
    """Rounds of the second look, of which a decision can have a p of ``level``.

    60 for one kernel at 1 %, 75 for ten and 95 for a hundred.
    """
    blocks = math.ceil(math.log2(1 / level)) + _SPARE
    return max(SECOND_ROUNDS, blocks * BLOCK)


def p_of_rounds(candidate: Sequence[float], baseline: Sequence[float]) -> float:
    """One-sided p of the exact sign test: as many blocks of rounds are slower by chance.

    It asks nothing of how times are distributed, only that blocks are slower as often as faster
    where nothing changed.

    Args:
        candidate: seconds per call, one per round.
        baseline: seconds of the same rounds.

    Raises:
        ValueError: as for :func:`.rules.block_ratios`.
    """
    ratios = block_ratios(candidate, baseline)
    slower = int((ratios > 1).sum())
    return float(stats.binom.sf(slower - 1, ratios.size, 0.5))


def processes(level: float) -> int:
    """Processes that must all be slower than a stored time: 3 for one kernel at 1 %, 5 for ten."""
    return max(PROCESSES, math.ceil(math.log(level) / math.log(_BEYOND_STORED)))


def p_of_processes(count: int) -> float:
    """Chance that so many processes of the same kernel are all slower than its stored time."""
    return _BEYOND_STORED**count
