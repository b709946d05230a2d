"""Every model scores through our pipeline what transformers gives for one sequence at a time."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import transformers

from pytest_sparsity.evaluation.generation import continue_greedily
from pytest_sparsity.evaluation.perplexity import Window, score_documents
from pytest_sparsity.evaluation.probes import Probe, probe_states
from pytest_sparsity.evaluation.scoring import Span, score_spans
from pytest_sparsity.evaluation.texts import Prompt, continue_texts
from pytest_sparsity.methods.positions import positions
from pytest_sparsity.models import LanguageModel
from pytest_sparsity.models import packing as packing_module
from pytest_sparsity.models.forward import check_head, hidden_states, logits, run_documents
from pytest_sparsity.models.packing import KNOWN, find_packing, packing
from pytest_sparsity.models.tiny import tiny_tokenizer

SHAPE: dict[str, Any] = {
    "vocab_size": 257,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "bos_token_id": 256,
    "eos_token_id": 256,
    "pad_token_id": 256,
}
GROUPED: dict[str, Any] = {
    **SHAPE,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "max_position_embeddings": 512,
}
LONGROPE = {
    "type": "longrope",
    "short_factor": [1.0, 1.1, 1.2, 1.3],
    "long_factor": [4.0, 5.0, 6.0, 7.0],
}
FALCON_H1: dict[str, Any] = {
    **GROUPED,
    "mamba_d_ssm": 32,
    "mamba_n_heads": 2,
    "mamba_d_head": 16,
    "mamba_d_state": 8,
    "mamba_n_groups": 1,
    "mamba_chunk_size": 16,
}
RECURRENT_GEMMA: dict[str, Any] = {
    **SHAPE,
    "num_hidden_layers": 3,
    "intermediate_size": 96,
    "lru_width": 32,
    "attention_window_size": 512,
}


def known(make: Callable[[], Any]) -> bool:
    """Whether this version of transformers has the configuration."""
    try:
        make()
    except AttributeError:
        return False
    return True


#: What cannot be packed, or not at every length: a configuration for each kind.
EVERY: dict[str, Callable[[], Any]] = {
    "bloom": lambda: transformers.BloomConfig(**SHAPE),
    "mpt": lambda: transformers.MptConfig(
        vocab_size=257, d_model=32, n_layers=2, n_heads=4, max_seq_len=512
    ),
    "falcon_alibi": lambda: transformers.FalconConfig(**SHAPE, alibi=True),
    "mamba": lambda: transformers.MambaConfig(
        vocab_size=257, hidden_size=32, num_hidden_layers=2, state_size=8
    ),
    "falcon_h1": lambda: transformers.FalconH1Config(**FALCON_H1),
    "lfm2": lambda: transformers.Lfm2Config(
        **GROUPED, layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False
    ),
    "qwen3_next": lambda: transformers.Qwen3NextConfig(
        **GROUPED,
        head_dim=8,
        layer_types=["linear_attention", "full_attention"],
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        num_experts=4,
        num_experts_per_tok=2,
        moe_intermediate_size=16,
        shared_expert_intermediate_size=16,
    ),
    "jamba": lambda: transformers.JambaConfig(
        **GROUPED,
        num_experts=2,
        mamba_d_state=8,
        attn_layer_period=2,
        attn_layer_offset=1,
        use_mamba_kernels=False,  # transformers 4 asks for them otherwise
    ),
    "rwkv": lambda: transformers.RwkvConfig(
        vocab_size=257, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32
    ),
    "recurrent_gemma": lambda: transformers.RecurrentGemmaConfig(**RECURRENT_GEMMA),
    # Attends to 16 tokens that it chooses.
    "doge": lambda: transformers.DogeConfig(**GROUPED, keep_window_size=16),
    "longrope": lambda: transformers.Phi3Config(
        **GROUPED,
        original_max_position_embeddings=64,
        rope_scaling=dict(LONGROPE),
    ),
    "dynamic": lambda: transformers.LlamaConfig(
        **{**GROUPED, "max_position_embeddings": 64},
        rope_scaling={"rope_type": "dynamic", "factor": 8.0},
    ),
}
MODELS = {kind: make for kind, make in EVERY.items() if known(make)}


def made(config: Any) -> Any:
    """A language model of a configuration: random weights that matter, and bytes for tokens."""
    torch.manual_seed(0)
    model: Any = transformers.AutoModelForCausalLM.from_config(config)
    model.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(7)
    for name, parameter in sorted(model.named_parameters()):
        if parameter.ndim > 1 and not name.endswith(("A_log", "conv1d.weight")):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.copy_(noise / parameter.shape[-1] ** 0.5)
    return LanguageModel(
        name="made",
        source="made",
        model=model,
        tokenizer=tiny_tokenizer(),
        weights_hash="",
        dtype=torch.float32,
        sites=(),
    )


@pytest.fixture(scope="module")
def models() -> Callable[[str], Any]:
    """The models of ``MODELS``, each made once."""
    return functools.cache(lambda kind: made(MODELS[kind]()))


def text(length: int, seed: int) -> list[int]:
    return torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(seed)).tolist()


def plain(kind: str, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities [T, V] of transformers alone, which has seen no other sequence before."""
    return plain_pass(kind, tuple(tokens))


@functools.cache
def plain_pass(kind: str, tokens: tuple[int, ...]) -> torch.Tensor:
    model = copy.deepcopy(pristine(kind)) if kind == "dynamic" else pristine(kind)
    with torch.inference_mode():
        found = model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0]
        return found.log_softmax(-1)


@functools.cache
def pristine(kind: str) -> Any:
    return made(MODELS[kind]()).model


def plain_score(kind: str, span: Span) -> float:
    found = plain(kind, span.tokens)
    places = range(span.start, len(span.tokens))
    return math.fsum(float(found[k - 1, span.tokens[k]]) for k in places)


def plain_path(kind: str, tokens: list[int], steps: int) -> list[int]:
    """The likeliest tokens, each from a pass over the whole sequence."""
    path: list[int] = []
    for _ in range(steps):
        path.append(int(plain(kind, [*tokens, *path])[-1].argmax()))
    return path


#: Shots that all items share, then choices short and long, and of one length.
SHOTS = text(20, 1)
SPANS = [
    [
        Span([*SHOTS, *text(n, 10 + n), *text(m, 30 + place)], 20 + n)
        for place, m in enumerate(choices)
    ]
    for n, choices in [(5, (7, 7, 108)), (40, (2, 3, 4)), (18, (3, 3, 3)), (90, (9, 9, 1))]
]
LONE = [[Span(text(12, 2), 4), Span(text(133, 3), 5)], [Span(text(133, 4), 60)]]


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("share", [True, False])
def test_choices_score_as_they_do_alone(kind: str, share: bool, models: Any) -> None:
    for groups in (SPANS, LONE):
        for given in (groups, groups[::-1]):  # whatever was run before
            found = [g for pack in score_spans(models(kind), given, share=share) for g in pack]
            for scores, group in zip(found, given, strict=True):
                expected = [plain_score(kind, span) for span in group]
                assert [score.log_likelihood for score in scores] == pytest.approx(
                    expected, abs=1e-4, rel=1e-6
                )


@pytest.mark.parametrize("kind", MODELS)
def test_documents_score_as_they_do_alone(kind: str, models: Any) -> None:
    documents = [
        Window(str(seed), torch.tensor(text(n, seed)))
        for seed, n in enumerate((90, 90, 40, 133, 133, 7, 90))
    ]
    for record, window in zip(score_documents(models(kind), documents), documents, strict=True):
        tokens = window.tokens.tolist()
        rows = plain(kind, tokens)[:-1].gather(1, window.tokens[1:, None])[:, 0]
        assert record["log_likelihoods"] == pytest.approx(rows.tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", MODELS)
def test_greedy_text_is_that_of_whole_passes(kind: str, models: Any) -> None:
    """Across the length at which positions change (64), and for prompts that begin alike."""
    model = models(kind)
    beginning = text(20, 5)
    prompts = [[*beginning, *text(n, 60 + n)] for n in (10, 10, 38, 38, 60)]
    expected = [plain_path(kind, prompt, 8) for prompt in prompts]
    found = continue_texts(model, [Prompt(prompt, 8, ()) for prompt in prompts], share=True)
    windows = [Window(str(n), torch.tensor(prompt)) for n, prompt in enumerate(prompts)]
    together = [
        path
        for some in (windows[:2], windows[2:4], windows[4:])
        for path in continue_greedily(model, some, 8)
    ]
    for path, (tokens, _), whole in zip(together, found, expected, strict=True):
        assert path == whole
        assert tokens == [*whole, 256][: [*whole, 256].index(256)]


@pytest.mark.parametrize("kind", MODELS)
def test_states_of_threads_are_those_of_one_pass(kind: str, models: Any) -> None:
    model = models(kind)
    texts = [torch.tensor(text(n, n)) for n in (133, 12, 90, 30, 110, 64, 65)] * 2
    for tokens, states in zip(texts, run_documents(model, texts), strict=True):
        with torch.inference_mode():
            found = logits(model, states).log_softmax(-1)
        torch.testing.assert_close(found, plain(kind, tokens.tolist()), rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", ["bloom", "falcon_h1", "longrope", "dynamic"])
def test_probes_of_different_lengths_are_those_of_one_pass(kind: str, models: Any) -> None:
    model = models(kind)
    probes = [
        Probe(str(n), Span([*SHOTS, *text(n, n)], 22), Span(text(120, 8)[: 20 + n], 22), "d")
        for n in (10, 30, 60, 90)
    ]
    for probe in probes:
        states = probe_states(model, probes)[probe.id]
        for span, own in zip((probe.reasoning, probe.prose), states, strict=True):
            with torch.inference_mode():
                found = logits(model, own).log_softmax(-1)
            expected = plain(kind, span.tokens)[21:-1]
            torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_what_each_can_do(models: Any) -> None:
    """Not by its name: what is run together is what a trial found to be the same."""
    how = {kind: packing(models(kind)) for kind in MODELS}
    assert {kind for kind in MODELS if how[kind].packs} == {"longrope", "dynamic", "doge"}
    assert [how[kind].limit for kind in ("longrope", "dynamic", "doge")] == [64, 64, 16]
    assert {kind for kind in MODELS if how[kind].one_at_a_time} == {
        *("longrope", "dynamic", "recurrent_gemma"),
    }
    for kind in ("bloom", "mpt", "falcon_alibi"):
        assert how[kind].beginnings
        assert how[kind].steps
    assert all(bool(each.reason) != each.packs for each in how.values())


@pytest.mark.parametrize("family", [*sorted(KNOWN - {"gemma3_text", "falcon"}), "gemma3"])
def test_what_is_not_tried_would_pass(family: str, small_model: Any) -> None:
    model = small_model(family)
    tried, taken = find_packing(model), packing(model)
    assert (taken.packs, taken.beginnings, taken.steps) == (True, True, True)
    assert (tried.packs, tried.beginnings, tried.steps) == (True, True, True)
    assert tried.limit == taken.limit


@pytest.mark.parametrize("family", ["falcon", "falcon_grouped"])
def test_falcons_without_alibi_pack(family: str, small_model: Any) -> None:
    tried = find_packing(small_model(family))
    assert (tried.packs, tried.beginnings, tried.steps, tried.reason) == (True, True, True, "")


@pytest.mark.parametrize("kind", ["mamba", "rwkv", "falcon_alibi", "mpt"])
def test_the_trial_finds_what_is_known(
    kind: str, models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_module, "_fact", lambda model: "")
    found = find_packing(models(kind))
    assert (found.packs, found.reason) == (
        False,
        "sequences in one row give something else than alone",
    )


@pytest.mark.parametrize("kind", ["mamba", "falcon_h1", "bloom", "longrope"])
def test_steps_tell_where_they_are(kind: str, models: Any) -> None:
    """A prefill policy goes by it, also where the cache holds no keys to be counted."""
    model, seen = models(kind), []
    signature = inspect.signature(model.decoder.forward)

    def look(_: Any, args: Any, kwargs: Any) -> None:
        seen.append(positions(signature.bind(*args, **kwargs).arguments)[0].tolist())

    handle = model.decoder.register_forward_pre_hook(look, with_kwargs=True)
    continue_greedily(model, [Window("a", torch.tensor(text(62, 9)))], 4)
    handle.remove()
    wholes = [list(range(n)) for n in (62, 63, 64, 65)]
    steps = [wholes[0], [62], [63], [64]]
    if kind == "longrope":  # from there on all positions are others
        steps[3] = wholes[3]
    # With transformers 4 recurrent layers do not go on from what a pass returns.
    assert seen == (steps if packing(model).steps else wholes)


def test_a_cache_of_others_that_tells_nothing_is_behind_what_stays_dense(models: Any) -> None:
    tokens = torch.tensor([[1]])
    with torch.inference_mode():
        cache = models("mamba").decoder(input_ids=tokens, use_cache=True).cache_params
    assert int(positions({"input_ids": tokens, "cache_params": cache})) > 1_000_000


def test_what_logits_go_through_is_known(models: Any) -> None:
    """Caps and factors under the names that hybrids have for them."""
    check_head(models("recurrent_gemma"))
    check_head(made(transformers.FalconH1Config(**{**FALCON_H1, "lm_head_multiplier": 0.3})))
    cap = transformers.RecurrentGemmaConfig(**{**RECURRENT_GEMMA, "logits_soft_cap": 0.5})
    model = made(cap)
    check_head(model)
    assert float(logits(model, hidden_states(model, torch.tensor(text(5, 1)))).abs().max()) <= 0.5


def test_a_copied_model_knows_how_it_may_be_run(models: Any) -> None:
    model = models("bloom")
    found = packing(model)
    copied = copy.deepcopy(model)
    assert packing(copied) == found
    assert copied.model is not model.model


def test_nobody_sees_the_trial_and_it_is_made_once(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(MODELS["mpt"]())
    seen: list[int] = []
    block = model.decoder.blocks[0]
    block.register_forward_hook(lambda *_: seen.append(1))
    state = torch.random.get_rng_state()
    how = packing(model)
    assert (seen, torch.equal(state, torch.random.get_rng_state())) == ([], True)
    monkeypatch.setattr(packing_module, "find_packing", pytest.fail)
    assert packing(model) is packing(model.twin()) is how
    hidden_states(model, torch.tensor(text(5, 1)))
    assert seen == [1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_rounding_of_narrow_types_is_told_from_what_is_wrong(
    dtype: torch.dtype, small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packing_module, "_fact", lambda model: "")
    for model in (made(MODELS["mpt"]()), made(MODELS["mamba"]()), made(MODELS["rwkv"]())):
        assert not find_packing(model.twin(dtype)).packs
    for family in ("llama", "gemma3", "gpt2"):
        how = find_packing(small_model(family).twin(dtype))
        assert (how.packs, how.beginnings, how.steps, how.cached) == (True, True, True, None)


class Counting(torch.nn.Module):
    """A layer that holds the last x, and cannot do without."""

    def __init__(self, inner: torch.nn.Module) -> None:
        super().__init__()
        self.inner = inner
        self.last = torch.zeros(1)

    def forward(self, x: torch.Tensor) -> Any:
        self.last = self.last.sum() * 0 + x
        return self.inner(x)


def test_what_a_layer_needs_is_left_to_it(small_model: Any) -> None:
    model = small_model("llama")
    block = model.decoder.layers[0]
    block.mlp = Counting(block.mlp)
    how = find_packing(model)
    assert (how.packs, how.one_at_a_time, how.kept) == (True, True, ())
    assert isinstance(block.mlp.last, torch.Tensor)
