"""Every causal architecture that can be made in small scores together what it scores alone."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.generation import continue_greedily
from pytest_sparsity.evaluation.perplexity import Window
from pytest_sparsity.evaluation.scoring import Span, score_spans
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models.backbone import use_linear_layers
from pytest_sparsity.models.forward import check_head
from pytest_sparsity.models.tiny import tiny_tokenizer
from pytest_sparsity.models.twins import plain_config, random_model, shrunk_config

KINDS = sorted({config.model_type for config in transformers.MODEL_FOR_CAUSAL_LM_MAPPING})
#: Their index finds many tokens equally good, and rounding chooses among them: a pass over the
#: first tokens of a text differs from these tokens in a longer pass, without anything of ours.
UNSTABLE = ("axk2", "deepseek_v32", "dots3_note", "dots3_note_text", "glm_moe_dsa", "hy_v4")


def text(length: int, seed: int) -> list[int]:
    return torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


#: Twenty tokens that all begin with, then choices of equal and of other lengths.
SHOTS = text(20, 1)
SPANS = [
    [
        Span([*SHOTS, *text(n, 10 + n), *text(m, 30 + place)], 20 + n)
        for place, m in enumerate(choices)
    ]
    for n, choices in [(5, (7, 7, 30)), (18, (3, 3, 1))]
]


def language_model(kind: str) -> Any:
    """The twin of an architecture; skips what cannot be built or is not measured."""
    config: Any = transformers.CONFIG_MAPPING[kind]
    try:
        model: Any = random_model(shrunk_config(plain_config(config)), seed=3)
    except Exception as error:
        pytest.skip(f"cannot be built: {error}")
    if model.config.is_encoder_decoder:
        pytest.skip("it has an encoder")
    use_linear_layers(model)
    model.requires_grad_(False)
    found = LanguageModel(
        name=kind,
        source=kind,
        model=model,
        tokenizer=tiny_tokenizer(),
        weights_hash="",
        dtype=torch.float32,
        sites=(),
    )
    try:
        check_head(found)
    except (SparsityError, AttributeError, AssertionError, ValueError) as error:
        pytest.skip(f"is not measured: {error}")
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in UNSTABLE])
def test_what_is_run_together_scores_as_it_does_alone(kind: str) -> None:
    model = language_model(kind)

    def plain(tokens: list[int]) -> torch.Tensor:
        with torch.inference_mode():
            found = model.model(input_ids=torch.tensor([tokens]), use_cache=False)
            return found.logits[0].float().log_softmax(-1)

    prompt, path = [*SHOTS, *text(10, 9)], list[int]()
    for _ in range(4):
        path.append(int(plain([*prompt, *path])[-1].argmax()))
    found = [group for pack in score_spans(model, SPANS) for group in pack]
    for scores, group in zip(found, SPANS, strict=True):
        for score, span in zip(scores, group, strict=True):
            places = range(span.start, len(span.tokens))
            rows = plain(span.tokens)
            expected = math.fsum(float(rows[k - 1, span.tokens[k]]) for k in places)
            assert score.log_likelihood == pytest.approx(expected, abs=1e-5 * len(places))
    assert continue_greedily(model, [Window("a", torch.tensor(prompt))], 4) == [path]
