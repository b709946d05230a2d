from __future__ import annotations

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.methods.positions import positions
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy


class Cache:
    """As much of a key-value cache as positions are made from."""

    def __init__(self, length: int) -> None:
        self.length = length

    def get_seq_length(self) -> int:
        return self.length


@pytest.mark.parametrize("text", ["none", "half", "first:1", "first:17"])
def test_known_policies_keep_their_names(text: str) -> None:
    assert PrefillPolicy.parse(text).name == text


@pytest.mark.parametrize(
    "text",
    ["", "first", "first:", "first:0", "first:-1", "first:1.5", "first:1 ", "First:1", "all"],
)
def test_unknown_policies_are_one_clear_sentence(text: str) -> None:
    with pytest.raises(SparsityError) as caught:
        PrefillPolicy.parse(text)
    assert str(caught.value) == (
        f"--sparsity-prefill {text!r} is not a policy; use none, first:N (for example first:1) "
        "or half"
    )


@pytest.mark.parametrize(
    ("policy", "length", "dense"),
    [
        ("none", 5, 0),
        ("first:1", 5, 1),
        ("first:3", 5, 3),
        ("first:9", 5, 5),
        # TEAL's code makes the last T // 2 tokens sparse, and a single one.
        ("half", 5, 3),
        ("half", 7, 4),
        ("half", 6, 3),
        ("half", 2, 1),
        ("half", 1, 0),
    ],
)
def test_how_many_leading_tokens_are_dense(policy: str, length: int, dense: int) -> None:
    found = PrefillPolicy(policy).dense_positions(torch.arange(length)[None], torch.tensor(length))
    assert (found is None) == (dense == 0)
    if found is not None:
        assert found.tolist() == [[step < dense for step in range(length)]]


def test_padding_counts_as_dense_under_every_policy() -> None:
    place, lengths = torch.tensor([[-1, -1, 0, 1, 2, 3]]), torch.tensor([[4]])
    for policy, dense in (("none", 2), ("first:1", 3), ("half", 4)):
        found = PrefillPolicy(policy).dense_positions(place, lengths)
        assert found is not None
        assert found.tolist() == [[step < dense for step in range(6)]]


def test_first_token_is_the_default() -> None:
    assert PrefillPolicy.parse("first:1") == FIRST_TOKEN_DENSE


IDS = torch.zeros(2, 3, dtype=torch.long)


def test_positions_of_a_plain_sequence_and_of_embeddings() -> None:
    assert positions({"input_ids": IDS}).tolist() == [[0, 1, 2]] * 2
    assert positions({"inputs_embeds": torch.zeros(2, 3, 8)}).tolist() == [[0, 1, 2]] * 2


def test_positions_go_on_behind_a_cache() -> None:
    step = {"input_ids": IDS[:, :1], "past_key_values": Cache(7)}
    assert positions(step).tolist() == [[7]] * 2
    assert positions({**step, "past_key_values": Cache(0)}).tolist() == [[0]] * 2


@pytest.mark.parametrize("explicit", [False, True])
def test_padding_has_no_position(explicit: bool) -> None:
    mask = torch.tensor([[0, 1, 1], [1, 1, 0]])
    given = {"input_ids": IDS, "attention_mask": mask}
    if explicit:  # transformers numbers padding 0 or 1, which is no place in a sequence
        given["position_ids"] = torch.tensor([[1, 0, 1], [0, 1, 1]])
    assert positions(given).tolist() == [[-1, 0, 1], [0, 1, -1]]


def test_the_mask_of_a_decoding_step_covers_the_cache() -> None:
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    given = {"input_ids": IDS[:, :1], "attention_mask": mask, "past_key_values": Cache(4)}
    assert positions(given).tolist() == [[2], [4]]


def test_explicit_positions_win() -> None:
    packed = torch.tensor([[0, 1, 0]])
    assert positions({"input_ids": IDS, "position_ids": packed}).tolist() == [[0, 1, 0]] * 2
