"""Whether a GGUF file's weights fit the activation that transformers assumes for them.

GGUF has no key for the activation.  llama.cpp and transformers compute that of the architecture's
first model, SiLU for llama, and a ReLU model in such a file is measured as another, worse model
without a word.  The weights themselves tell: on plain English, the activation that they were
trained with predicts better.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from pytest_sparsity.core.errors import SparsityError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

#: Written for this purpose, so that no model has learnt it by heart.
PASSAGE = (
    "The ferry left the island a little after seven, when the fog had thinned enough for the "
    "pilot to see the second buoy. Anna stood at the rail with her brother's coat around her "
    "shoulders and counted the houses that still had a light in the window. There were fewer of "
    "them than last year. The school had closed in spring, and the family that kept the shop had "
    "moved to the mainland because their youngest needed a doctor close by. Nobody spoke of it as "
    "an ending. They said that the winter would be quiet, that the roofs were sound, and that "
    "somebody would surely want to come back when the summer visitors had gone home.\n\n"
    "On the other side of the water, the train was late again. A man in a grey hat explained to "
    "everyone who would listen that it had not been on time once since the new bridge was opened, "
    "and that he had written to the company about it three times. Anna bought two cups of tea and "
    "a newspaper, and gave one of the cups to the boy who looked after the boats. He thanked her "
    "and asked whether she would bring him a book about stars. She promised that she would, and "
    "wrote it on the back of her ticket so that she could not forget.\n\n"
    "The carriage was nearly empty. She read the first page twice without taking in a line of it "
    "and then folded the paper and looked out at the fields, which were brown and wet and went on "
    "for a long way. At the third station an old woman got in with a basket of apples and sat down "
    "opposite. After a while she asked if Anna was from the islands. When Anna said that she was, "
    "the woman nodded, as if this explained a great deal, and told her about a winter when the sea "
    "had frozen and the post had come across the ice on a sledge. Her father had driven it. He was "
    "not a brave man, she said, but he did not like to be late, and that is sometimes the same "
    "thing. They had lost one horse that year and found it again in March, alive and rather fat, "
    "in the barn of a farmer who swore that he had never seen it before.\n\n"
    "It was raining in the city when they arrived. Her brother waited under the clock, thinner "
    "than she remembered and without an umbrella, and for a moment neither of them knew what to "
    "say. Then he took her bag and asked about the boat, the roof and the dog, in that order, and "
    "she answered him in that order, and they walked out into the street together. The lamps had "
    "been lit early. In the square a man was selling chestnuts, three for a coin, and the smell of "
    "the fire followed them as far as the river. He lived on the top floor of a narrow house, with "
    "two rooms, one good chair, and a view over so many chimneys that she gave up counting them. "
    "She put the coat over the back of the chair and said that it had kept her warm, and that she "
    "would need to borrow it again on Sunday."
)
_MAX_TOKENS = 2048  # the whole passage, if it is cut into bytes
_ERRORS = 4.0  # standard errors of the mean difference
_LEARNT = 1.0  # nats below a guess among all tokens: random weights never get there

#: Names under which transformers keeps the activation of an MLP.
_PLACES = ("act_fn", "act", "activation_fn")


def fits_relu_better(assumed: torch.Tensor, relu: torch.Tensor, vocabulary: int) -> bool:
    """Whether losses say that the weights were trained with ReLU.

    Args:
        assumed: nats per token [T] with the activation that transformers assumes.
        relu: the same tokens' with ReLU.
        vocabulary: number of tokens.

    Returns:
        True if ReLU is better by more than four standard errors of the paired difference, and
        predicts at all: its mean is a nat or more below log(vocabulary).
    """
    gain = (assumed - relu).double()
    if len(gain) < 2 or not bool(torch.isfinite(gain).all()):
        return False
    error = float(gain.std() / len(gain) ** 0.5)
    learnt = float(relu.double().mean()) <= math.log(vocabulary) - _LEARNT
    return learnt and float(gain.mean()) > _ERRORS * error


def check_activation(model: Any, tokenizer: PreTrainedTokenizerBase, file: str) -> None:
    """See that a model made from a GGUF file is not a ReLU model computed as something else.

    Args:
        model: a causal model of transformers, on the CPU; left as it is.
        tokenizer: its own.
        file: name of the file, for the message.

    Raises:
        SparsityError: its weights fit ReLU better than what transformers assumes.
    """
    found = _activations(model)
    assumed = {type(module).__name__ for _, _, module in found}
    if not found or any(isinstance(module, nn.ReLU) for _, _, module in found):
        return
    text: list[int] = tokenizer(PASSAGE)["input_ids"]
    # A table of positions ends.
    length = getattr(model.config.get_text_config(), "max_position_embeddings", _MAX_TOKENS)
    tokens = torch.tensor(text[: min(length, _MAX_TOKENS)])
    if len(tokens) < 3:
        return
    was_training = model.training
    model.eval()
    try:
        plain = _nats(model, tokens)
        with _with_relu(found):
            relu = _nats(model, tokens)
    finally:
        model.train(was_training)
    if fits_relu_better(plain, relu, model.get_input_embeddings().num_embeddings):
        raise SparsityError(
            f"--sparsity-model {file}: GGUF does not say which activation a model has, and its "
            f"weights lose {float(relu.mean()):.2f} nats per token of English with ReLU but "
            f"{float(plain.mean()):.2f} with {', '.join(sorted(assumed))}, which transformers "
            "would compute; pass a folder written by save_pretrained whose config.json says "
            "hidden_act 'relu', or a .powerinfer.gguf"
        )


def _activations(model: Any) -> list[tuple[nn.Module, str, nn.Module]]:
    """(owner, name, module) of every activation that stands beside linear layers."""
    return [
        (owner, name, child)
        for owner in model.modules()
        for name, child in owner.named_children()
        if name in _PLACES and not list(child.children()) and not list(child.parameters())
    ]


@contextmanager
def _with_relu(found: list[tuple[nn.Module, str, nn.Module]]) -> Iterator[None]:
    for owner, name, _ in found:
        setattr(owner, name, nn.ReLU())
    try:
        yield
    finally:
        for owner, name, module in found:
            setattr(owner, name, module)


def _nats(model: Any, tokens: torch.Tensor) -> torch.Tensor:
    """Loss of every token but the first, float32 [T - 1]."""
    with torch.inference_mode():
        logits = model(input_ids=tokens[None], use_cache=False).logits[0, :-1].float()
        return nn.functional.cross_entropy(logits, tokens[1:], reduction="none").clone()
