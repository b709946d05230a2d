r"""Task files: JSON lines, one item per line, bundled ones and the user's.

A line of a multiple-choice task::

    {"context": "The keys to the cabinet", "choices": [" is", " are"], "gold": 1}

``gold`` counts from 0; a choice is appended to the context as it is, so it begins with a
space where the language wants one.  Optional per line: ``id`` (default: its number) and
``prefix`` (index of a text put before the context, such as shots).  Optional first line::

    {"header": {"kind": "choice", "normalisation": "sum", "family": "reasoning",
                "licence": "...", "prefixes": ["..."]}}

A task of the kind ``chain`` has a reference chain of thought in every item.  The header then
names the ``cue`` that announces an answer; every chain ends with it, and the answer follows::

    {"header": {"kind": "chain", "cue": "So the answer is", "prefixes": ["..."]}}
    {"context": "Question: Ann has 2 hats and buys 3. How many has she?\nAnswer:", "prefix": 0,
     "chain": " 2 + 3 = 5. So the answer is", "choices": [" 5"], "gold": 0}

Its other choices are what one might guess.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pytest_sparsity.core.errors import SparsityError
from pytest_sparsity.evaluation.items import Item, make_item
from pytest_sparsity.evaluation.user_files import json_objects

Family = Literal["reasoning", "knowledge", "language", "user"]
Kind = Literal["choice", "last_word", "chain"]
Normalisation = Literal["sum", "token", "char"]


@dataclass(frozen=True)
class Spec:
    """What is fixed about a task before anything is measured with it.

    Attributes:
        family: what it asks of a model; "user" where a file does not say.
        kind: see :class:`~pytest_sparsity.evaluation.tasks.Task`.
        normalisation: of log-likelihoods, for "choice".
        licence: of the items.
        vendored: whether items come with this package.
        cue: text that announces the answer, for "chain".
    """

    family: Family
    kind: Kind
    normalisation: Normalisation
    licence: str
    vendored: bool = False
    cue: str = ""


def read_task_file(path: Path) -> tuple[Spec, list[Item]]:
    """Read a task file (format: see the module), in the file's order.

    Raises:
        SparsityError: names the file and the line of the first mistake.
    """
    header: dict[str, Any] = {}
    items: dict[str, Item] = {}
    for place, line in json_objects(path, "task"):
        if "header" in line and not items and not header:
            header = _checked_header(place, line["header"])
        else:
            _add_item(items, place, line, header)
    if not items:
        raise SparsityError(f"task file {path} has no items; add them below its header")
    spec = _spec(header, "not stated (user's file)")
    return spec, list(items.values())


def check_task(
    name: str, header: dict[str, Any], lines: Iterable[Any]
) -> tuple[Spec, tuple[Item, ...]]:
    """What a task file with this header and these lines would hold.

    Args:
        name: of the task, for messages.
        header: see the module.
        lines: see the module.

    Raises:
        SparsityError: names the task and the item of the first mistake.
    """
    place = f"task {name!r}"
    header = _checked_header(place, header)
    items: dict[str, Item] = {}
    for number, line in enumerate(lines, 1):
        place = f"task {name!r} item {number}"
        if not isinstance(line, Mapping):
            raise SparsityError(f"{place} is no mapping but {type(line).__name__}")
        plain = {key: list(v) if isinstance(v, tuple) else v for key, v in line.items()}
        _add_item(items, place, plain, header)
    if not items:
        raise SparsityError(f"task {name!r} has no items; give it some")
    return _spec(header, "not stated"), tuple(items.values())


def _add_item(
    items: dict[str, Item], place: str, line: dict[str, Any], header: dict[str, Any]
) -> None:
    item = _checked_item(place, line, header, default_id=str(len(items)))
    if item.id in items:
        raise SparsityError(f"{place} repeats the id {item.id!r}; ids must differ")
    items[item.id] = item


def _spec(header: dict[str, Any], licence: str) -> Spec:
    return Spec(
        family=header.get("family", "user"),
        kind=header.get("kind", "choice"),
        normalisation=header.get("normalisation", "sum"),
        licence=header.get("licence", licence),
        cue=header.get("cue", ""),
    )


def kind_in_header(path: Path) -> Kind:
    """The kind that a task file states; "choice" if it states none or cannot be read.

    Mistakes in the file are told when it is read for its items.
    """
    try:
        _, line = next(json_objects(path, "task"))
        kind: Kind = line["header"]["kind"]
    except (SparsityError, LookupError, TypeError, StopIteration):
        return "choice"
    return kind if kind in get_args(Kind) else "choice"


_CHOSEN = {"kind": Kind, "normalisation": Normalisation, "family": Family}
_HEADER_KEYS = (*_CHOSEN, "licence", "source", "prefixes", "cue")


def _checked_header(place: str, header: object) -> dict[str, Any]:
    if not isinstance(header, dict):
        raise SparsityError(f"{place}: 'header' must be an object")
    for key in header:
        if key not in _HEADER_KEYS:
            raise SparsityError(
                f"{place}: unknown header key {key!r}; known are {', '.join(_HEADER_KEYS)}"
            )
    for key, values in _CHOSEN.items():
        allowed = get_args(values)
        if header.get(key, allowed[0]) not in allowed:
            raise SparsityError(
                f"{place}: {key} must be one of {', '.join(allowed)}, not {header[key]!r}"
            )
    if not isinstance(header.get("licence", ""), str):
        raise SparsityError(f"{place}: licence must be a text")
    if not _texts(header.get("prefixes", [])):
        raise SparsityError(f"{place}: prefixes must be a list of texts")
    cue = header.get("cue", "")
    if not isinstance(cue, str) or bool(cue.strip()) != (header.get("kind") == "chain"):
        raise SparsityError(
            f"{place}: cue is the text after which a chain task's answer stands, such as "
            f"'So the answer is', and no other kind of task has one"
        )
    return header


def _checked_item(
    place: str, line: dict[str, Any], header: dict[str, Any], default_id: str
) -> Item:
    chained = header.get("kind") == "chain"
    wanted = ["context", *(["chain"] if chained else []), "choices", "gold"]
    if missing := [key for key in wanted if key not in line]:
        raise SparsityError(f"{place} lacks the key {missing[0]!r}")
    context, choices, gold = line["context"], line["choices"], line["gold"]
    if not isinstance(context, str) or not context.strip():
        raise SparsityError(f"{place}: context must be a text that is not empty")
    if not _texts(choices) or not all(choice.strip() for choice in choices):
        raise SparsityError(f"{place}: choices must be a list of texts that are not empty")
    if len(set(choices)) < len(choices):
        raise SparsityError(f"{place}: two choices are the same")
    if header.get("kind") == "last_word":
        if len(choices) != 1:
            raise SparsityError(f"{place}: a last_word item has one choice, not {len(choices)}")
    elif len(choices) < (1 if chained else 2):
        least = "one" if chained else "two"
        raise SparsityError(f"{place}: choices must be at least {least}, not {len(choices)}")
    if type(gold) is not int or not 0 <= gold < len(choices):
        raise SparsityError(
            f"{place}: gold must be an index from 0 to {len(choices) - 1}, not {gold!r}"
        )
    context = _prefix(place, line, header) + context
    chain = _checked_chain(place, line["chain"], header["cue"]) if chained else ""
    return make_item(str(line.get("id", default_id)), context, choices, gold, chain)


def _checked_chain(place: str, chain: object, cue: str) -> str:
    if not isinstance(chain, str) or not chain.strip():
        raise SparsityError(f"{place}: chain must be a text that is not empty")
    if not chain.rstrip().endswith(cue.strip()):
        raise SparsityError(f"{place}: chain must end with the header's cue, {cue.strip()!r}")
    if not chain.rstrip().removesuffix(cue.strip()).strip():
        raise SparsityError(f"{place}: chain has nothing before the cue {cue.strip()!r}")
    if "\n" in chain.strip():
        raise SparsityError(
            f"{place}: chain must be one line, since generated answers end with the line"
        )
    return chain


def _prefix(place: str, line: dict[str, Any], header: dict[str, Any]) -> str:
    if "prefix" not in line:
        return ""
    index, prefixes = line["prefix"], header.get("prefixes", [])
    if type(index) is not int or not 0 <= index < len(prefixes):
        raise SparsityError(
            f"{place}: prefix {index!r} is not an index into the {len(prefixes)} header prefixes"
        )
    return str(prefixes[index])


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)
