"""Questions with a reference chain of thought, made from our own templates.

Public sets with such chains (GSM8K) are beyond models of the size that runs on two cores, which
then show nothing when they are made sparse.  These are steps that a small dense model can follow
when it is shown how: ``chain_sums`` (additions and subtractions), ``chain_handover`` (who has
the thing, after it changed hands) and ``chain_kinds`` (what follows from rules about made-up
kinds, after the form of PrOntoQA, arXiv 2210.01240).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

from agreement_pairs import Pick, picker

CUE = " So the answer is"
ITEMS = 300
SHOTS = 3

# fmt: off
NAMES = (
    "Anna", "Ben", "Carl", "Dora", "Emma", "Frank", "Grace", "Henry", "Ivan", "Julia", "Kate",
    "Leo", "Maria", "Nina", "Oscar", "Paul", "Rosa", "Sam", "Tina", "Victor",
)
THINGS = ("apples", "books", "cards", "coins", "eggs", "pens", "stamps", "toys")
OBJECTS = ("ball", "book", "hat", "key", "lamp", "letter", "map", "ring")
KINDS = (
    "cat", "dog", "bird", "fish", "tree", "stone", "river", "cloud", "chair", "table", "box", "cup",
)
# fmt: on

Question = tuple[str, str, list[str]]  # question, chain, choices of which the first is right


def tasks() -> dict[str, tuple[str, list[dict[str, object]]]]:
    """Per task the shots, as one text, and the items in the task-file format."""
    made = {}
    for name, build in TEMPLATES.items():
        questions = _distinct(name, build, SHOTS + ITEMS)
        shots = "".join(
            f"{_asked(question)}{chain}{CUE} {choices[0]}.\n\n"
            for question, chain, choices in questions[:SHOTS]
        )
        made[name] = (shots, [_item(n, q) for n, q in enumerate(questions[SHOTS:])])
    return made


def _distinct(name: str, build: Callable[[Pick], Question], count: int) -> list[Question]:
    found: dict[str, Question] = {}
    attempt = 0
    while len(found) < count:
        made = build(picker(f"{name}:{attempt}"))
        attempt += 1
        found.setdefault(made[0], made)
    return list(found.values())


def _item(number: int, question: Question) -> dict[str, object]:
    asked, chain, choices = question
    return {
        "id": f"{number:03}",
        "context": _asked(asked),
        "prefix": 0,
        "chain": f"{chain}{CUE}",
        "choices": [f" {choice}" for choice in choices],
        "gold": 0,
    }


def _asked(question: str) -> str:
    return f"Question: {question}\nAnswer:"


def _several(pick: Pick, slot: str, options: Sequence[str], count: int) -> list[str]:
    chosen: list[str] = []
    for number in range(count):
        chosen.append(pick(f"{slot}{number}", [o for o in options if o not in chosen]))
    return chosen


def _sums(pick: Pick) -> Question:
    name, thing = pick("name", NAMES), pick("thing", THINGS)
    givers = _several(pick, "giver", [other for other in NAMES if other != name], 2)
    total = int(pick("start", [str(n) for n in range(2, 10)]))
    told, chain = [f"{name} has {total} {thing}."], f" {name} has {total} {thing}."
    for step, giver in enumerate(givers):
        amount = int(pick(f"by{step}", [str(n) for n in range(1, 6)]))
        told.append(f"{giver} gives {name} {amount} more.")
        chain += f" {giver} gives {amount}, so {total} + {amount} = {total + amount}."
        total += amount
    choices = [str(total + away) for away in (0, -2, -1, 1, 2)]
    return f"{' '.join(told)} How many {thing} does {name} have now?", chain, choices


def _handover(pick: Pick) -> Question:
    people, thing = _several(pick, "name", NAMES, 4), pick("thing", OBJECTS)
    told, chain = [f"{people[0]} has the {thing}."], f" {people[0]} has the {thing}."
    for giver, taker in itertools.pairwise(people):
        act = f"{giver} gives the {thing} to {taker}"
        told.append(f"{act}.")
        chain += f" {act}, so {taker} has the {thing}."
    return f"{' '.join(told)} Who has the {thing} now?", chain, people[::-1]


def _kinds(pick: Pick) -> Question:
    name = pick("name", NAMES)
    first, second, third, other, wrong = _several(pick, "kind", KINDS, 5)
    rules = [
        f"Every {first} is a {second}.",
        f"Every {second} is a {third}.",
        f"Every {other} is a {wrong}.",
    ]
    turn = int(pick("order", ("0", "2")))  # which leaves the two rules of the chain in order
    told = " ".join(rules[turn:] + rules[:turn])
    asked = pick("asked", (f"a {third} or a {wrong}", f"a {wrong} or a {third}"))
    chain = (
        f" {name} is a {first}. Every {first} is a {second}, so {name} is a {second}."
        f" Every {second} is a {third}, so {name} is a {third}."
    )
    return f"{told} {name} is a {first}. Is {name} {asked}?", chain, [third, wrong]


TEMPLATES: dict[str, Callable[[Pick], Question]] = {
    "chain_sums": _sums,
    "chain_handover": _handover,
    "chain_kinds": _kinds,
}
