"""Prefill policies: which leading positions of a sequence stay dense.

Early tokens are attention sinks, and sparsifying them costs far more than any other
position (TEAL, arXiv 2408.14690, section 5.4.3), so every result names its policy.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from pytest_sparsity.core.errors import SparsityError

KNOWN = "none, first:N (for example first:1) or half"


@dataclass(frozen=True)
class PrefillPolicy:
    """The policy ``name``: ``none``, ``first:N`` (N leading tokens dense) or ``half``.

    ``half`` keeps the first half of every sequence dense, rounded up, as the published TEAL
    evaluation does: the last ``T // 2`` of T tokens are sparse, and so is a single one.
    """

    name: str

    @classmethod
    def parse(cls, text: str) -> PrefillPolicy:
        """Read a policy from an option.

        Raises:
            SparsityError: ``text`` is not a policy.
        """
        if text in ("none", "half") or re.fullmatch(r"first:[1-9]\d*", text):
            return cls(text)
        raise SparsityError(f"--sparsity-prefill {text!r} is not a policy; use {KNOWN}")

    def dense_positions(
        self, positions: torch.Tensor, lengths: torch.Tensor
    ) -> torch.Tensor | None:
        """Where activations stay dense.

        Args:
            positions: [B, T] integer position of each token in its own sequence; padding
                before the sequence has a negative position and always counts as dense.
            lengths: integer, broadcasts to [B, T]: length of the token's sequence so far.

        Returns:
            Boolean [B, T], or None when every position is sparsified.
        """
        if self.name == "none":
            dense = positions < 0
        elif self.name == "half":
            dense = positions < (lengths + (lengths > 1)) // 2
        else:
            dense = positions < int(self.name.partition(":")[2])
        return dense if bool(dense.any()) else None


def all_dense(prefill: PrefillPolicy, text: str) -> SparsityError:
    """The error for a policy that leaves nothing of ``text`` to sparsify."""
    return SparsityError(
        f"--sparsity-prefill {prefill.name} keeps every token of the {text} dense; use a smaller "
        "number, or none"
    )


FIRST_TOKEN_DENSE = PrefillPolicy("first:1")
