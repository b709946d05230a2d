"""Tasks whose items have a reference chain of thought: ours, GSM8K and the user's files."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation import standard, tasks
from pytest_sparsity.evaluation.items import Item, make_item
from pytest_sparsity.evaluation.tasks import TASKS, kind_of, read_task_file, task

REPOSITORY = Path(__file__).resolve().parents[2]
CHAINS = [name for name, spec in TASKS.items() if spec.kind == "chain"]
DATA = Path(tasks.__file__).parent / "data" / "tasks"


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location(
        "reasoning_chains", REPOSITORY / "ci" / "reasoning_chains.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, str(REPOSITORY / "ci"))  # what it imports is beside it
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop(0)
    sys.modules.pop("reasoning_chains", None)
    return module


# --- ours


def test_vendored_chains_are_what_the_script_makes(script: Any) -> None:
    for name, (shots, made) in script.tasks().items():
        _, items = read_task_file(DATA / f"{name}.jsonl")
        assert [(i.id, i.context, i.chain, list(i.choices), i.gold) for i in items] == [
            (m["id"], shots + m["context"], m["chain"], m["choices"], m["gold"]) for m in made
        ]


@pytest.mark.parametrize("name", CHAINS)
def test_every_item_has_a_chain_that_ends_with_the_cue(name: str) -> None:
    found = task(name, seed=0)
    assert found.family == "reasoning"
    assert len(found.items) == 300
    for item in found.items:
        assert item.chain.endswith(found.cue)
        assert "\n" not in item.chain
        assert item.choices[item.gold].startswith(" ")
        shots, _, question = item.context.rpartition("\n\n")
        assert shots.count(found.cue) == 3
        assert question not in shots  # no shot is asked again
        assert question.startswith("Question: ")
        assert question.endswith("\nAnswer:")


def test_sums_are_right() -> None:
    for item in task("chain_sums", seed=0).items:
        steps = re.findall(r"(\d+) \+ (\d+) = (\d+)\.", item.chain)
        assert len(steps) == 2
        assert all(int(a) + int(b) == int(c) for a, b, c in steps)
        question = item.context.rpartition("\n\n")[2]
        told = [int(n) for n in re.findall(r"\d+", question)]
        assert item.choices[item.gold] == f" {sum(told)}" == f" {steps[-1][2]}"


def test_the_thing_is_where_it_was_handed_to() -> None:
    for item in task("chain_handover", seed=0).items:
        question = item.context.rpartition("\n\n")[2]
        gifts = re.findall(r"(\w+) gives the \w+ to (\w+)\.", question)
        assert [giver for giver, _ in gifts[1:]] == [taker for _, taker in gifts[:-1]]
        assert item.choices[item.gold] == f" {gifts[-1][1]}"
        assert len(set(item.choices)) == 4


def test_what_follows_from_the_rules_is_the_answer() -> None:
    for item in task("chain_kinds", seed=0).items:
        question = item.context.rpartition("\n\n")[2]
        rules = dict(re.findall(r"Every (\w+) is a (\w+)\.", question))
        (first,) = re.findall(r"\. (?:\w+) is a (\w+)\. Is ", question)
        assert item.choices[item.gold] == f" {rules[rules[first]]}"
        (offered,) = re.findall(r"Is \w+ a (\w+) or a (\w+)\?", question)
        assert sorted(item.choices) == sorted(f" {kind}" for kind in offered)


def test_chance_is_that_of_guessing_among_the_choices_or_the_commonest_answer(
    tmp_path: Path,
) -> None:
    assert task("chain_sums", seed=0).chance == pytest.approx(1 / 5)
    assert task("chain_handover", seed=0).chance == pytest.approx(1 / 4)
    assert task("chain_kinds", seed=0).chance == pytest.approx(1 / 2)
    assert 0.01 < task("gsm8k", seed=0).chance < 0.1
    same = [line(choices=[" 5"], gold=0) for _ in range(3)]
    path = write(tmp_path, *same, line(choices=[" 6"], gold=0))
    assert task(str(path), seed=0).chance == 0.75


def test_the_position_of_the_answer_in_a_question_does_not_give_it_away() -> None:
    firsts = 0
    for item in task("chain_kinds", seed=0).items:
        (offered,) = re.findall(r"Is \w+ a (\w+) or a (\w+)\?", item.context.rpartition("\n\n")[2])
        firsts += f" {offered[0]}" == item.choices[item.gold]
    assert 110 < firsts < 190  # of 300: 4.6 standard deviations


# --- GSM8K


def test_gsm8k_is_split_into_chain_and_answer() -> None:
    shots = "\n\n".join(f"Question: {n}?\nAnswer: So the answer is {n}." for n in range(8))
    row = {
        "request": {
            "context": f"{shots}\n\nQuestion: how many?\nAnswer:",
            "continuation": " 2 + 3 = 5. So the answer is 5.",
        }
    }
    found = standard._chain_item("7", [row])
    kept = "\n\n".join(f"Question: {n}?\nAnswer: So the answer is {n}." for n in (1, 3, 7))
    assert found == Item(
        "7",
        f"{kept}\n\nQuestion: how many?\nAnswer:",
        (" 5",),
        0,
        " 2 + 3 = 5. So the answer is",
    )
    row["request"]["continuation"] = " It is 5."
    with pytest.raises(ValueError, match="document 7 has no chain of thought with an answer"):
        standard._chain_item("7", [row])


# --- the user's files


def line(**keys: Any) -> dict[str, Any]:
    item = {"context": "Q?", "chain": " 2 + 3 = 5. So it is", "choices": [" 5", " 4"], "gold": 0}
    return {k: v for k, v in {**item, **keys}.items() if v is not None}


def write(folder: Path, *lines: object, header: dict[str, Any] | None = None) -> Path:
    path = folder / "mine.jsonl"
    head = {"header": {"kind": "chain", "cue": "So it is"} if header is None else header}
    path.write_text("\n".join(json.dumps(each) for each in (head, *lines)), encoding="utf-8")
    return path


def test_a_file_is_a_task_of_the_family_that_it_states(tmp_path: Path) -> None:
    header = {"kind": "chain", "cue": "So it is", "family": "knowledge"}
    path = write(tmp_path, line(), line(choices=[" 6"]), header=header)
    found = task(str(path), seed=0)
    assert (found.kind, found.family, found.cue) == ("chain", "knowledge", "So it is")
    assert {item.chain for item in found.items} == {" 2 + 3 = 5. So it is"}
    assert kind_of(str(path)) == "chain"


def test_white_space_moves_to_what_follows_it() -> None:
    assert make_item("0", "Q: ", ["5"], 0, "so it is ") == Item("0", "Q:", (" 5",), 0, " so it is")


def test_chain_and_cue_are_part_of_what_is_measured(tmp_path: Path) -> None:
    one = task(str(write(tmp_path, line())), seed=0)
    other = task(str(write(tmp_path, line(chain=" 5 is 2 + 3. So it is"))), seed=0)
    assert one.hash != other.hash


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([line(), line(gold=None)], "line 3 lacks the key 'gold'"),
        ([line(choices=None)], "line 2 lacks the key 'choices'"),
        ([line(chain=None)], "line 2 lacks the key 'chain'"),
        ([line(chain=" ")], "line 2: chain must be a text that is not empty"),
        ([line(chain=5)], "line 2: chain must be a text that is not empty"),
        ([line(chain=" So it is")], "line 2: chain has nothing before the cue 'So it is'"),
        ([line(chain=" 2 + 3 = 5.")], "line 2: chain must end with the header's cue, 'So it is'"),
        ([line(chain=" 2 +\n3. So it is")], "line 2: chain must be one line"),
        ([line(choices=[])], "line 2: choices must be at least one, not 0"),
        ([line(choices=[""])], "line 2: choices must be a list of texts that are not empty"),
    ],
)
def test_bad_items_are_named_with_the_line(
    tmp_path: Path, lines: list[object], message: str
) -> None:
    path = write(tmp_path, *lines)
    with pytest.raises(SparsityError, match=re.escape(f"task file {path} {message}")):
        task(str(path), seed=0)


@pytest.mark.parametrize(
    "header", [{"kind": "chain"}, {"kind": "chain", "cue": " "}, {"cue": "So it is"}]
)
def test_a_cue_belongs_to_chains(tmp_path: Path, header: dict[str, Any]) -> None:
    path = write(tmp_path, line(), header=header)
    with pytest.raises(SparsityError, match="line 1: cue is the text after which a chain task's"):
        task(str(path), seed=0)


def test_an_unknown_family_is_refused(tmp_path: Path) -> None:
    header = {"kind": "chain", "cue": "So it is", "family": "logic"}
    with pytest.raises(SparsityError, match="family must be one of reasoning, knowledge, language"):
        task(str(write(tmp_path, line(), header=header)), seed=0)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ('{"header": {"kind": "chain"}}', "chain"),
        ('{"header": {"kind": "poem"}}', "choice"),
        ('{"context": "c"}', "choice"),
        ("nonsense", "choice"),
    ],
)
def test_the_kind_is_read_without_the_items(tmp_path: Path, text: str, kind: str) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text(text, encoding="utf-8")
    assert kind_of(str(path)) == kind
    assert kind_of(str(tmp_path / "missing.jsonl")) == "choice"
