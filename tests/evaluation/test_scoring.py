from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation import scoring
from pytest_sparsity.evaluation.choice import score_items
from pytest_sparsity.evaluation.corpora import Document
from pytest_sparsity.evaluation.generation import continue_greedily, describe_paths
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.perplexity import Window, dense_states, score_documents, windows
from pytest_sparsity.evaluation.tasks import Task
from pytest_sparsity.evaluation.trie import pack
from pytest_sparsity.methods.attach import sparsify
from pytest_sparsity.methods.calibration import magnitude_quantiles
from pytest_sparsity.methods.plan import Plan, Threshold
from pytest_sparsity.methods.prefill import FIRST_TOKEN_DENSE, PrefillPolicy
from pytest_sparsity.models import parallel

pytestmark = pytest.mark.usefixtures("one_thread")
FAMILIES = ["llama", "qwen2", "gemma3"]


def text(seed: int, length: int) -> torch.Tensor:
    return torch.randint(0, 256, (length,), generator=torch.Generator().manual_seed(seed))


def plan_of(model: Any, policy: str = "first:1", level: float = 0.5) -> Plan:
    found = magnitude_quantiles(model, [text(0, 64)], [level], FIRST_TOKEN_DENSE)[level]
    selectors = {site: Threshold(value) for site, value in found.items()}
    return Plan("teal", level, selectors, PrefillPolicy(policy))


def task_of(*items: Item, kind: Any = "choice", normalisation: Any = "sum") -> Task:
    return Task("quiz", "user", kind, normalisation, 0.25, items, "none")


SHOTS = "Q: is water wet? A: yes\nQ: is fire cold? A: no\n"
QUIZ = task_of(
    *(
        Item(
            id=f"i{n}",
            context=SHOTS * (n % 2) + f"Q: {n * 37} is " + "so very " * (n % 8) + "odd? A:",
            choices=(" yes", " no", " yes and no", f" {n}")[: 2 + n % 3],
            gold=n % 2,
        )
        for n in range(14)
    )
)


def plain_scores(model: Any, item: Item) -> list[float]:
    """One sequence after the other, by the model's own forward."""
    scores = []
    for answer in item.choices:
        start = len(item.context.encode())
        tokens = list((item.context + answer).encode())
        ids = torch.tensor([*model.tokenizer(item.context + answer).input_ids])
        assert len(ids) == len(tokens)
        lead = [] if model.bos is None else [model.bos]
        ids = torch.cat([torch.tensor(lead, dtype=torch.long), ids])
        start += len(lead)
        with torch.inference_mode():
            found = model.model(input_ids=ids[None]).logits[0].log_softmax(-1)
        scores.append(sum(float(found[k - 1, ids[k]]) for k in range(start, len(ids))))
    return scores


def twins(model: Any, sparse: bool) -> tuple[Any, Any]:
    """A model, and one of the same weights with a plan attached if ``sparse``."""
    twin = model.twin()
    if sparse:
        sparsify(twin, plan_of(model))
    return model, twin


# --- multiple choice


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("policy", [None, "first:1", "first:3", "none"])
def test_packed_scores_are_those_of_plain_sequences(
    family: str, policy: str | None, small_model: Any
) -> None:
    model = small_model(family)
    groups = [
        [scoring.encode(model, item.context, answer).tokens for answer in item.choices]
        for item in QUIZ.items
    ]
    packs = list(pack(groups, scoring._PACK))
    assert len(packs) > 1
    assert max(members for _, members in packs) > 2
    if family == "gemma3":  # packs are longer than the window, sequences are not
        assert max(len(tree.tokens) for tree, _ in packs) > model.model.config.sliding_window
    twin = model.twin()
    if policy is not None:
        sparsify(twin, plan_of(model, policy))
    results = score_items(twin, QUIZ, QUIZ.items)
    assert [result["id"] for result in results] == [item.id for item in QUIZ.items]
    for item, result in zip(QUIZ.items, results, strict=True):
        expected = plain_scores(twin, item)
        assert result["scores"] == pytest.approx(expected, rel=1e-5, abs=1e-4)
        assert result["gold"] == item.gold
        assert result["right"] == (max(expected) == expected[item.gold])
    if policy is not None:
        dense = score_items(model, QUIZ, QUIZ.items)
        assert all(a["scores"] != b["scores"] for a, b in zip(dense, results, strict=True))


def test_half_of_an_item_is_half_of_its_sequence_and_not_of_its_pack(small_model: Any) -> None:
    model = small_model("llama")
    items = [  # nothing shared between items, choices of one length
        Item(f"i{n}", f"{n}: {'tell me ' * n}the answer is", (" yes", " nay"), 0) for n in range(9)
    ]
    with sparsify(model, plan_of(model, "half")):
        results = score_items(model, task_of(*items), items, share=False)
        for item, result in zip(items, results, strict=True):
            assert result["scores"] == pytest.approx(plain_scores(model, item), rel=1e-5, abs=1e-4)


def test_lengths_and_both_answers(small_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model = small_model("llama")
    item = Item("one", "Say:", (" aé", " bbbb"), 1)
    scores = {" aé": -6.0, " bbbb": -8.0}
    monkeypatch.setattr(
        scoring,
        "_score_pack",
        lambda *_: [[scoring.Score(scores[c], False) for c in item.choices]],
    )
    found = {}
    for normalisation in ("sum", "token", "char"):
        (found[normalisation],) = score_items(
            model, task_of(item, normalisation=normalisation), [item]
        )
    assert found["sum"]["tokens"] == [4, 5]  # bytes, the space among them
    assert found["sum"]["chars"] == [2, 4]  # characters, without it
    assert not any(each["right"] for each in found.values())
    # -6 / 4 > -8 / 5 is not so, and -6 / 2 > -8 / 4 is not, either
    assert found["token"]["right_normalised"] is (-8 / 5 > -6 / 4)
    assert found["char"]["right_normalised"] is (-8 / 4 > -6 / 2)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sparse", [False, True])
def test_the_last_word_is_right_when_greedy_decoding_gives_it(
    family: str, sparse: bool, small_model: Any, generated: Any
) -> None:
    model, twin = twins(small_model(family), sparse)
    items = []
    # Bytes that greedy decoding gives, and the same with one of them changed.
    contexts = [chr(c) * 3 + " and so on" for c in range(65, 123, 2)]
    for context in contexts:
        ids = [*([256] if model.bos else []), *model.tokenizer(context).input_ids]
        path = generated(twin, ids, 2, eos_token_id=999)
        if max(path) > 255:
            continue
        symbols = model.tokenizer.convert_ids_to_tokens(path)
        word = model.tokenizer.backend_tokenizer.decoder.decode(symbols)
        if model.tokenizer(word).input_ids != path:
            continue  # not a whole character
        other = "~" if word[-1] != "~" else "!"
        items += [Item(context, context, (word,), 0)]
        items += [Item(context, context, (word[:-1] + other,), 0)]
    assert items
    results = score_items(twin, task_of(*items, kind="last_word"), items)
    assert [result["right"] for result in results] == [True, False] * (len(items) // 2)
    assert all(result["right"] == result["right_normalised"] for result in results)


@pytest.mark.parametrize("sparse", [False, True])
def test_an_item_longer_than_a_window_of_attention_scores_as_it_does_alone(
    sparse: bool, small_model: Any
) -> None:
    model, twin = twins(small_model("gemma3"), sparse)
    window = model.model.config.sliding_window
    shots = "one two three. " * 20
    items = [
        Item(f"i{length}", shots + "x" * length, (" no", " yes it is"), 0)
        for length in (3, window - len(shots), window)
    ]
    for item, result in zip(items, score_items(twin, task_of(*items), items), strict=True):
        assert result["scores"] == pytest.approx(plain_scores(twin, item), rel=1e-5, abs=1e-4)


def test_an_item_that_is_too_long_is_one_clear_sentence(small_model: Any) -> None:
    family, limit = "llama", 512
    model = small_model(family)
    lead = int(model.bos is not None)
    fits = Item("fits", "x" * (limit - 3 - lead), (" no",), 0)
    assert len(score_items(model, task_of(fits), [fits])) == 1
    long = Item("long", "x" * (limit - 2 - lead), (" no",), 0)
    with pytest.raises(SparsityError) as caught:
        score_items(model, task_of(fits, long), [fits, long])
    assert str(caught.value) == (
        f"item long of task quiz has {limit + 1} tokens, more than the {limit} that model "
        f"small-{family} attends to; leave it out of --sparsity-tasks"
    )


@pytest.mark.parametrize(("context", "answer"), [("", " yes"), ("why?", "")])
def test_nothing_to_score_is_one_clear_sentence(
    context: str, answer: str, small_model: Any
) -> None:
    item = Item("bad", context, (" yes", answer), 0)
    with pytest.raises(SparsityError) as caught:
        score_items(small_model("llama"), task_of(item), [item])
    assert str(caught.value) == (
        "item bad of task quiz has an empty context or choice once tokenised for small-llama; "
        "mend the task file"
    )


def test_progress_counts_items(small_model: Any) -> None:
    done: list[int] = []
    score_items(small_model("llama"), QUIZ, QUIZ.items, done.append)
    assert sum(done) == len(QUIZ.items)
    assert len(done) > 1


# --- perplexity


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("sparse", [False, True])
def test_log_likelihoods_are_the_models_own_loss(
    family: str, sparse: bool, small_model: Any
) -> None:
    _, twin = twins(small_model(family), sparse)
    # Longer than Gemma's window of 200 and than the rows for which logits are made together.
    texts = [Window("a", text(1, 230)), Window("b", text(2, 65)), Window("c", text(3, 2))]
    scored = score_documents(twin, texts)
    assert [document["id"] for document in scored] == ["a", "b", "c"]
    for window, document in zip(texts, scored, strict=True):
        with torch.inference_mode():
            ids = window.tokens[None]
            loss = float(twin.model(input_ids=ids, labels=ids).loss)
        assert document["tokens"] == len(document["log_likelihoods"]) == len(window.tokens) - 1
        assert -math.fsum(document["log_likelihoods"]) / document["tokens"] == pytest.approx(
            loss, rel=1e-5
        )


@pytest.mark.parametrize("family", FAMILIES)
def test_divergence_and_agreement_are_their_definitions(family: str, small_model: Any) -> None:
    model = small_model(family)
    texts = [Window("a", text(1, 130)), Window("b", text(2, 20))]
    reference = dense_states(model, texts)
    plan = plan_of(model, level=0.3)
    with sparsify(model, plan):
        scored = score_documents(model, texts, reference)
    for window, document in zip(texts, scored, strict=True):
        with torch.inference_mode():
            dense = model.model(input_ids=window.tokens[None]).logits[0, :-1].double()
            with sparsify(model, plan):
                sparse = model.model(input_ids=window.tokens[None]).logits[0, :-1].double()
        p, q = dense.log_softmax(-1), sparse.log_softmax(-1)
        assert document["kl"] == pytest.approx(float((p.exp() * (p - q)).sum()), rel=1e-4)
        assert document["kl"] > 0
        agreement = int((dense.argmax(-1) == sparse.argmax(-1)).sum())
        assert document["agreement"] == agreement
        assert 0 < agreement < document["tokens"]


def test_the_dense_model_does_not_diverge_from_itself(small_model: Any) -> None:
    model = small_model("qwen2")
    texts = [Window("a", text(1, 130))]
    alone = score_documents(model, texts)
    against = score_documents(model, texts, dense_states(model, texts))
    assert alone == against
    assert (alone[0]["kl"], alone[0]["agreement"]) == (0.0, 129)


def test_windows_are_the_first_tokens_of_documents(tiny: Any) -> None:
    documents = [
        Document("long", "abcdefghij" * 9, "x"),
        Document("short", "abcd", "x"),
        Document("exact", "abcde", "x"),
    ]
    found = windows(documents, tiny, 5)
    assert [window.id for window in found] == ["long", "exact"]
    assert all(tiny.tokenizer.decode(window.tokens) == "abcde" for window in found)
    led = windows(documents, replace(tiny, first_tokens=(256,)), 5)
    assert [window.id for window in led] == ["long", "short", "exact"]
    assert all(window.tokens[0] == 256 for window in led)
    assert tiny.tokenizer.decode(led[1].tokens[1:]) == "abcd"


# --- NaN


@pytest.fixture
def broken(small_model: Any) -> Any:
    """A model one of whose logits is NaN for every token."""
    model = small_model("llama")
    model.model.lm_head.weight[5] = torch.nan
    return model


def test_nan_in_a_document_is_one_clear_sentence(broken: Any) -> None:
    with pytest.raises(SparsityError) as caught:
        score_documents(broken, [Window("doc", text(1, 9))])
    assert str(caught.value) == (
        "model small-llama gives a log-likelihood that is not finite (NaN logits) on document "
        "doc; the weights or the sparse plan are broken"
    )


def test_nan_in_an_item_is_one_clear_sentence(broken: Any) -> None:
    with pytest.raises(SparsityError) as caught:
        score_items(broken, QUIZ, QUIZ.items)
    assert str(caught.value) == (
        "model small-llama gives a log-likelihood that is not finite (NaN logits) on item i0 of "
        "task quiz; the weights or the sparse plan are broken"
    )


def test_nan_while_generating_is_one_clear_sentence(broken: Any) -> None:
    with pytest.raises(SparsityError) as caught:
        continue_greedily(broken, [Window("doc", text(1, 9))], 3)
    assert str(caught.value) == (
        "model small-llama gives NaN logits while it generates text; the weights or the sparse "
        "plan are broken"
    )


# --- generation


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("policy", [None, "first:1", "first:20", "half", "none"])
def test_paths_are_those_of_generate(
    family: str, policy: str | None, small_model: Any, generated: Any
) -> None:
    model = small_model(family)
    prompts = [Window(f"d{n}", text(n, 16)) for n in range(6)]  # more than one batch
    twin = model.twin()
    if policy is not None:
        sparsify(twin, plan_of(model, policy))
    paths = continue_greedily(twin, prompts, 12)
    for prompt, path in zip(prompts, paths, strict=True):
        assert path == generated(twin, prompt.tokens.tolist(), 12, eos_token_id=999)


def test_the_first_step_off_the_path_is_found(tiny: Any) -> None:
    prompts = [
        Window(name, tiny.tokenizer("ab", return_tensors="pt").input_ids[0]) for name in "xyz"
    ]
    dense = [tiny.tokenizer(word).input_ids for word in ("cde", "cde", "cde")]
    own = [tiny.tokenizer(word).input_ids for word in ("cde", "cdx", "xde")]
    found = describe_paths(tiny, prompts, own, dense)
    assert [each["first_divergence"] for each in found] == [None, 2, 0]
    assert found[1] == {
        "id": "y",
        "prompt": "ab",
        "text": "cdx",
        "dense_text": "cde",
        "path": own[1],
        "tokens": 3,
        "first_divergence": 2,
    }


# --- workers


def test_numbers_do_not_depend_on_the_number_of_workers(
    small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model("qwen2")
    texts = [Window(f"d{n}", text(n, length)) for n, length in enumerate((120, 5, 60, 3, 9))]
    prompts = [Window(f"d{n}", text(n, 16)) for n in range(9)]
    found = []
    for workers in (1, 2, 4):
        monkeypatch.setattr(parallel, "cores", lambda workers=workers: workers)
        reference = dense_states(model, texts)
        with sparsify(model, plan_of(model)) as attached:
            attached.counting = True
            found.append(
                (
                    score_documents(model, texts, reference),
                    score_items(model, QUIZ, QUIZ.items),
                    continue_greedily(model, prompts, 8),
                    attached.achieved.counts,
                )
            )
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("policy", [None, "first:1", "first:60", "none"])
def test_running_the_shots_once_changes_nothing(
    family: str, policy: str | None, small_model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = small_model(family)
    if policy is not None:
        sparsify(model, plan_of(model, policy))
    shots = "Q: is water wet? A: yes\n" * 3
    items = [
        Item(f"i{n}", f"{shots}Q: is {n} {'very ' * (n % 5)}odd? A:", (" yes", " no"), n % 2)
        for n in range(16)
    ]
    begun = []
    real = scoring.run_prefix
    monkeypatch.setattr(
        scoring, "run_prefix", lambda m, tokens: begun.append(len(tokens)) or real(m, tokens)
    )
    shared = score_items(model, task_of(*items), items)
    assert begun == [len(shots) + len("Q: is ") + int(model.bos is not None)]
    whole = score_items(model, task_of(*items), items, share=False)
    assert len(begun) == 1
    for item, a, b in zip(items, shared, whole, strict=True):
        assert a["scores"] == pytest.approx(b["scores"], rel=1e-5, abs=1e-4)
        assert a["scores"] == pytest.approx(plain_scores(model, item), rel=1e-5, abs=1e-4)


def test_a_text_that_is_in_the_common_beginning_is_scored(small_model: Any) -> None:
    # Both items have one context, and all of it but its last token is run once.
    model = small_model("llama")
    items = [Item(f"i{n}", "the very same question:", (" yes", f" {n}"), 0) for n in range(3)]
    for item, found in zip(items, score_items(model, task_of(*items), items), strict=True):
        assert found["scores"] == pytest.approx(plain_scores(model, item), rel=1e-5, abs=1e-4)
