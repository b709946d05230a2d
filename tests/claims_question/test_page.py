"""The page says what was found, of one run and of several, and its figures are drawn."""

from __future__ import annotations

import math
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.claims import store
from pytest_sparsity.claims.catalog import CATALOG, CLAIMS
from pytest_sparsity.claims.claim import investigate
from pytest_sparsity.claims.finding import ClaimVerdict, Effect, Finding
from pytest_sparsity.claims.page.page import claims_page, question_page
from pytest_sparsity.claims.page.runs import read_runs
from pytest_sparsity.claims.question import QUESTION
from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.statistics import Interval

Make = Callable[..., Any]


@pytest.fixture(scope="module")
def built() -> dict[str, Path]:
    """Report folders that were made already, by what they are of: a run takes a second."""
    return {}


@pytest.fixture
def run(
    world: Make,
    built: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> Make:
    """The report folder of a run."""
    versions = {"pytest-sparsity": "0.1.0", "torch": "2.13.0", "triton": None}
    monkeypatch.setattr(store, "versions", lambda: versions)

    def make(question: bool = True, **changes: Any) -> Path:
        key = repr((question, changes))
        if key not in built:
            made = world(report=tmp_path_factory.mktemp("run"), **changes)
            origin = store.origin(made.evidence())
            for finding in _of_claims(made.model):
                store.keep(made.report, finding, origin)
            for claim in QUESTION if question else ():
                evidence = made.evidence()
                store.keep(made.report, investigate(claim, evidence), store.origin(evidence))
            built[key] = made.report
        return built[key]

    return make


def _of_claims(model: str) -> list[Finding]:
    effect = Effect("loss <b>", Interval(0.1, 0.05, 0.15, 32), "nats", 0.0)
    return [
        Finding("1", model, ClaimVerdict.SUPPORTED, "so it is", (effect,), ("a-cell",)),
        Finding("2", model, ClaimVerdict.REFUTED, "so it is", (effect,), ("a-cell",)),
        Finding("3", model, ClaimVerdict.UNTESTABLE, "no vectors fit_here"),
    ]


def rows(markdown: str, first: str) -> list[str]:
    """The lines of tables whose first cell is this."""
    return [
        line for line in markdown.splitlines() if re.match(rf"\| *{re.escape(first)} *\|", line)
    ]


def test_the_page_of_one_run(run: Make) -> None:
    runs = read_runs([run()])
    text, question = claims_page(runs).markdown, question_page(runs, "findings").markdown
    for claim in CLAIMS:
        assert len(rows(text.partition("## The claims")[0], claim.number)) == 1
        assert claim.sentence in text.replace("\\", "")
    for claim in QUESTION:
        assert claim.sentence in question.replace("\\", "")
        assert claim.sentence not in text.replace("\\", "")
    assert "supported" in rows(text, "1")[0]
    assert "refuted" in rows(text, "2")[0]
    assert "cannot be tested here" in rows(text, "3")[0]
    assert "not run" in rows(text, "4")[0]
    assert "supported: 1; refuted: 2; cannot be tested here: 3." in text
    assert "m: **yes.** Rank correlation: teal 0." in question
    assert "m: **yes.** Log-perplexity on austen: cold_only +" in question
    assert "m: **yes.** Lost with teal at 0.5: reasoning " in question
    assert "so it is." in text.partition("### Claim 2")[2]
    assert "so it is." not in text.partition("### Claim 1")[2].partition("### Claim 2")[0]
    assert r"loss \<b>" in text
    assert "0.100 nats [0.050, 0.150]" in text
    assert r"no vectors fit\_here" in text or "no vectors fit_here" in text
    assert "machine, 2 cores" in text
    assert "torch 2.13.0" in text
    assert "triton" not in rows(text, "m")[-1]
    assert "public domain; 1234" in text
    data = text.partition("## How this was measured")[2]
    for task in ("basic_logical_reasoning", "sva", "gsm8k", "chain_sums"):
        assert len(rows(data.replace("\\", ""), task)) == 1
    assert "--sparsity-suite=claims --sparsity-model=m --sparsity-profile=quick" in text
    assert "pytest-sparsity findings findings-m\n" in text
    assert "All backbones together" not in question
    for made in (text, question):
        assert made.endswith("|\n")
        assert "nan" not in made


def test_the_command_chooses_the_claims_that_were_judged(run: Make) -> None:
    (some,) = read_runs([run(question=False)])
    assert "-k '[1- or [2- or [3-'\n" in claims_page([some]).markdown
    every = replace(some, findings=dict.fromkeys(CATALOG, some.findings["3"]))
    assert "--sparsity-report=findings-m\n" in claims_page([every]).markdown


def test_what_must_be_said_of_powerinfer(run: Make) -> None:
    text = question_page(read_runs([run()]), "findings").markdown.replace("\n  ", " ")
    for words in (
        "PowerInfer prunes neither hot nor cold neurons",
        "ablations of ours",
        "lossless with ReLU only",
        "share of the neurons in feed-forward blocks",
        "Multiple choice can stay flat",
    ):
        assert words in text


def test_cost_of_preparing_is_shown(run: Make) -> None:
    text = question_page(read_runs([run()]), "findings").markdown
    cost = text.partition("## What preparing it cost")[2]
    (row,) = [line for line in rows(cost, "m") if "cold_only-0.50" in line.replace("\\", "")]
    assert "8,192 tokens, 5.0 s" in row
    seeds = question_page(read_runs([run(), run(seed=1)]), "findings").markdown
    assert seeds.partition("## What preparing it cost")[2] == cost


def test_figures_are_linked_and_drawn_the_same_every_time(run: Make) -> None:
    runs = read_runs([run()])
    made = question_page(runs, "pictures")
    assert set(made.figures) == {"m-loss.svg", "m-hot-cold.svg", "neurons.svg"}
    assert set(re.findall(r"\]\(pictures/([^)]+)\)", made.markdown)) == set(made.figures)
    assert all(content.startswith(b"<?xml") for content in made.figures.values())
    assert question_page(runs, "pictures") == made


def test_several_backbones_side_by_side(run: Make) -> None:
    runs = read_runs([run(), run(model="other")])
    assert [r.label for r in runs] == ["m, quick, seed 0", "other, quick, seed 0"]
    assert rows(claims_page(runs).markdown, "1")[0].count("supported") == 2
    text = question_page(runs, "findings").markdown
    pooled = text.partition("All backbones together")[2].partition("\n\n\n")[0]
    assert len(rows(pooled, "teal")) >= 3
    assert "other-quick-seed-0-loss.svg" in text


def test_several_seeds_of_a_model_have_labels_of_their_own(run: Make) -> None:
    runs = read_runs([run(), run(seed=1)])
    assert [r.label for r in runs] == ["m, quick, seed 0", "m, quick, seed 1"]
    made = question_page(runs, "findings")
    assert "m-quick-seed-1-loss.svg" in made.figures
    assert "All backbones together" not in made.markdown  # the items are the same ones
    for text in (made.markdown, claims_page(runs).markdown):
        assert "## Seeds together" in text
        # 24 of 144 documents, 100 of 300 items
        assert "another read up to 33.3 %, too. Verdicts: those of all seeds are the same" in text
    assert "  - m, quick, seeds 0 and 1, together: teal: sparsity against loss" in made.markdown
    (hot,) = re.findall(r"How hot the hot neurons are.*?Active is", made.markdown, re.DOTALL)
    assert hot.count("austen (evaluation)") == 1


def test_the_same_run_twice_is_refused(run: Make) -> None:
    folder = run(question=False)
    with pytest.raises(SparsityError, match="2 of the runs are of m, quick, seed 0; name one"):
        read_runs([folder, folder])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"profile": "full"}, r"claims \d and 1 about m .* different profile \(quick, full\)"),
        ({"seed": 7}, r"different seed \(0, 7\)"),
        ({"settings": {"prefill": "none"}}, r"different prefill \(first:1, none\)"),
        ({"settings": {"corpora": ["a"]}}, "different corpora"),
        ({"dtype": "float16"}, "different dtype"),
        ({"target": {"cores": 1000}}, "different target"),
    ],
)
def test_what_two_settings_left_in_one_folder_is_refused(
    run: Make, tmp_path: Path, changes: dict[str, Any], said: str
) -> None:
    """A run of the full profile that was interrupted must not pass the rest as its own."""
    shutil.copy(run(question=False) / store.FILE, tmp_path)
    assert len(read_runs([tmp_path])) == 1
    origin = store.stored(tmp_path)[0].origin
    changes = {k: {**origin[k], **v} if isinstance(v, dict) else v for k, v in changes.items()}
    store.keep(tmp_path, _of_claims("m")[0], {**origin, **changes})
    with pytest.raises(SparsityError, match=said):
        read_runs([tmp_path])


def test_the_command_names_a_model_as_it_was_given(run: Make, tmp_path: Path) -> None:
    (tmp_path / store.FILE).write_text(
        (run(question=False) / store.FILE)
        .read_text()
        .replace('"models": ["m"]', '"models": ["org/other", "/data/of mine/m"]')
    )
    text = claims_page(read_runs([tmp_path])).markdown
    assert "'--sparsity-model=/data/of mine/m'" in text


def test_a_value_without_limits_says_why(run: Make, tmp_path: Path) -> None:
    endless = Interval(math.nan, -math.inf, math.inf, 32, note="nothing was lost")
    effect = Effect("loss", endless, "nats", 0.0)
    shutil.copy(run(question=False) / store.FILE, tmp_path)
    origin = store.stored(tmp_path)[0].origin
    store.keep(tmp_path, Finding("1", "m", ClaimVerdict.INCONCLUSIVE, "so", (effect,)), origin)
    (row,) = rows(claims_page(read_runs([tmp_path])).markdown, "loss")
    assert "n/a (nothing was lost)" in row


def test_a_folder_without_findings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SparsityError, match="--sparsity-suite=claims"):
        read_runs([tmp_path])
    (tmp_path / store.FILE).write_text("")
    with pytest.raises(SparsityError, match="holds no finding"):
        read_runs([tmp_path])


def test_models_at_chance_have_a_page_too(run: Make) -> None:
    at_chance = dict.fromkeys(("reasoning", "knowledge", "language"), 0.25)
    made = question_page(read_runs([run(dense=at_chance)]), "findings")
    assert "m: cannot be tested here" in made.markdown
    assert "refused" in made.markdown
    assert "no reasoning task is evidence" in made.markdown
    assert "m-hot-cold.svg" in made.figures
    assert "n/a %" not in made.markdown


def test_a_backbone_at_chance_is_not_put_together_with_others(run: Make) -> None:
    at_chance = dict.fromkeys(("reasoning", "knowledge", "language"), 0.25)
    runs = read_runs([run(), run(model="other", dense=at_chance)])
    assert "All backbones together" not in question_page(runs, "findings").markdown


def test_a_run_without_the_question(run: Make) -> None:
    runs = read_runs([run(question=False)])
    made = claims_page(runs)
    assert "**m: not run**" in made.markdown
    assert made.figures == question_page(runs, "findings").figures == {}
    assert "Nothing had to be prepared." in made.markdown


def test_what_has_no_limits_is_written(run: Make) -> None:
    (found,) = read_runs([run(question=False)])
    endless = Effect("share", Interval(float("nan"), float("-inf"), float("inf"), 3), "share")
    findings = {"7": Finding("7", "m", ClaimVerdict.INCONCLUSIVE, "so", (endless,))}
    text = claims_page([replace(found, findings=findings)]).markdown
    assert "| share    | n/a " in text
