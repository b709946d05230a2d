from __future__ import annotations

import random

import pytest
import torch

from pytest_sparsity.evaluation.trie import Pack, pack

GROUPS = [
    [[1, 2, 3, 4], [1, 2, 3, 5], [1, 2, 6]],
    [[1, 2, 3, 4]],
    [[7], [7, 7], [7, 7, 7]],
    [[1, 2, 9, 9, 9, 9]],
]


def many(seed: int) -> list[list[list[int]]]:
    """Items whose answers share a question, some of which share their first words."""
    chance = random.Random(seed)
    shots = [[chance.randrange(4) for _ in range(chance.randrange(5))] for _ in range(3)]
    return [
        [
            [*question, *(chance.randrange(5) for _ in range(chance.randrange(1, 5)))]
            for _ in range(chance.randrange(1, 5))
        ]
        for _ in range(40)
        for question in [chance.choice(shots) + [chance.randrange(6) for _ in range(6)]]
    ]


def ancestors(tree: Pack, node: int) -> list[int]:
    path = []
    while node >= 0:
        path.append(node)
        node = tree.parents[node]
    return path[::-1]


@pytest.mark.parametrize("limit", [1, 8, 20, 10_000])
@pytest.mark.parametrize("groups", [GROUPS, many(0), many(1)])
def test_every_sequence_is_in_a_pack_in_order_and_no_group_is_split(
    groups: list[list[list[int]]], limit: int
) -> None:
    left = list(groups)
    for tree, members in pack(groups, limit):
        expected = [sequence for group in left[:members] for sequence in group]
        assert [[tree.tokens[node] for node in path] for path in tree.paths] == expected
        for path in tree.paths:
            assert path == ancestors(tree, path[-1])
            assert [tree.depths[node] for node in path] == list(range(len(path)))
        # Every prefix is there once.
        prefixes = {tuple(s[: n + 1]) for s in expected for n in range(len(s))}
        assert len(tree.tokens) == len(prefixes)
        assert len(tree.tokens) <= limit or members == 1
        left = left[members:]
    assert left == []


@pytest.mark.parametrize("seed", range(4))
def test_packs_are_as_full_as_the_order_allows(seed: int) -> None:
    groups = many(seed)
    packs = list(pack(groups, 60))
    start = 0
    for tree, members in packs[:-1]:
        start += members
        joined = Pack()
        for sequence in [*(s for g in groups[start - members : start + 1] for s in g)]:
            joined.add(sequence)
        assert len(joined.tokens) > 60, "the next group would have fitted"
        assert len(tree.tokens) <= 60


def test_new_nodes_are_foretold() -> None:
    tree = Pack()
    for group in many(2):
        foretold = tree.new_nodes(group)
        before = len(tree.tokens)
        for sequence in group:
            tree.add(sequence)
        assert len(tree.tokens) - before == foretold


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_node_sees_its_ancestors_and_itself(dtype: torch.dtype) -> None:
    ((tree, _),) = pack(GROUPS, 100)
    mask = tree.mask(dtype)
    assert mask.dtype == dtype
    for node in range(len(tree.tokens)):
        seen = [other for other in range(len(tree.tokens)) if mask[node, other] == 0]
        assert seen == ancestors(tree, node)
    assert set(mask.unique().tolist()) == {0.0, torch.finfo(dtype).min}


def test_no_groups_no_packs() -> None:
    assert list(pack([], 10)) == []
