"""Packs sequences that share prefixes into token trees, so that no prefix is run twice.

The answers of a multiple-choice item share the question, and the items of a few-shot task
share the shots.  A pack holds every distinct prefix once; each node attends to its
ancestors only, and its position is its depth, so a node's hidden state is the one it has
in the plain sequence.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch


@dataclass
class Pack:
    """Several sequences as one tree of tokens.

    Attributes:
        tokens: token of each node; a parent comes before its children.
        parents: index of each node's parent, -1 for roots.
        depths: position of each node in its sequences.
        paths: per sequence, the node of each of its tokens.
    """

    tokens: list[int] = field(default_factory=list)
    parents: list[int] = field(default_factory=list)
    depths: list[int] = field(default_factory=list)
    paths: list[list[int]] = field(default_factory=list)
    _children: dict[tuple[int, int], int] = field(default_factory=dict, repr=False)

    def new_nodes(self, group: Sequence[Sequence[int]]) -> int:
        """How many nodes adding the sequences of ``group`` would create."""
        created: dict[tuple[int, int], int] = {}
        for sequence in group:
            node = -1
            for token in sequence:
                child = self._children.get((node, token))
                if child is None:  # numbered from -2 down: neither a node nor the root
                    child = created.setdefault((node, token), -2 - len(created))
                node = child
        return len(created)

    def add(self, sequence: Sequence[int]) -> None:
        """Add a sequence of tokens."""
        node, path = -1, []
        for depth, token in enumerate(sequence):
            child = self._children.get((node, token))
            if child is None:
                child = self._children[node, token] = len(self.tokens)
                self.tokens.append(token)
                self.parents.append(node)
                self.depths.append(depth)
            path.append(child)
            node = child
        self.paths.append(path)

    def mask(self, dtype: torch.dtype) -> torch.Tensor:
        """Additive attention mask [T, T]: 0 for a node's ancestors and itself."""
        seen = torch.zeros(len(self.tokens), len(self.tokens), dtype=torch.bool)
        for node, parent in enumerate(self.parents):
            if parent >= 0:
                seen[node] = seen[parent]
            seen[node, node] = True
        return torch.where(seen, 0.0, torch.finfo(dtype).min).to(dtype)


def pack(groups: Sequence[Sequence[Sequence[int]]], limit: int) -> Iterator[tuple[Pack, int]]:
    """Fill packs with groups of sequences, in order; a group is never split.

    Args:
        groups: per item, its token sequences.
        limit: nodes per pack; a group that alone needs more gets a pack of its own.

    Yields:
        (pack, number of groups in it).
    """
    current, members = Pack(), 0
    for group in groups:
        if members and len(current.tokens) + current.new_nodes(group) > limit:
            yield current, members
            current, members = Pack(), 0
        for sequence in group:
            current.add(sequence)
        members += 1
    if members:
        yield current, members


def common_prefix(sequences: Sequence[list[int]]) -> int:
    """How many tokens all sequences begin with."""
    if not sequences:
        return 0
    first, last = min(sequences), max(sequences)  # in order, these two differ the earliest
    together = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return sum(1 for _ in together)
