"""Minimal pairs of subject-verb agreement, made from our own templates (task ``sva``).

``The keys near the cabinet`` continues with `` are``, not `` is``.  The structures go from
easy to hard, so that a small dense model is right on most but not on all of them.  A lead-in
keeps the first token, which sweeps leave dense, away from the subject.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

LEADS = (
    "Everyone here knows that the",
    "According to the report, the",
    "As far as I can tell, the",
    "My sister told me that the",
    "It turned out that the",
    "Nobody denies that the",
    "On most days the",
    "If I remember correctly, the",
    "To nobody's surprise, the",
    "You can see at once that the",
)
# fmt: off
# Every noun has a plural in -s.
PEOPLE = (
    "boy", "girl", "teacher", "lawyer", "doctor", "singer", "driver", "farmer",
    "student", "dancer", "actor", "officer", "pilot", "writer", "manager", "painter",
)
THINGS = (
    "key", "letter", "picture", "window", "report", "bottle", "road", "house",
    "boat", "garden", "table", "lamp", "machine", "bridge", "tower", "statue",
)
# fmt: on
PLACES = ("near", "behind", "beside", "next to", "in front of")
# Verbs take -s in the singular.
RELATIONS = ("admire", "help", "follow", "know", "visit", "thank", "trust", "remember")
ACTIONS = ("like", "want", "need")
STATES = ("need", "seem", "remain")
AUXILIARIES = ((" is", " are"), (" was", " were"), (" has", " have"))

Pick = Callable[[str, Sequence[str]], str]
Verb = tuple[str, str]
Build = Callable[[Pick, bool, bool], tuple[str, Verb]]


def pairs() -> Iterator[dict[str, object]]:
    """Items in the task-file format: choices are (singular, plural), gold 0 or 1.

    Per structure as many singular as plural subjects; with an attractor, three of four
    differ from the subject in number.
    """
    for structure, (build, count) in STRUCTURES.items():
        seen: set[str] = set()
        attempt = 0
        while len(seen) < count:
            index = len(seen)
            plural = index % 2 == 1
            attractor = plural if index // 2 % 4 == 3 else not plural
            context, verb = build(picker(f"{structure}:{attempt}"), plural, attractor)
            attempt += 1
            if context in seen:
                continue
            seen.add(context)
            yield {
                "id": f"{structure}-{index:03}",
                "context": context,
                "choices": list(verb),
                "gold": int(plural),
            }


def picker(key: str) -> Pick:
    """Chooses by SHA-256, so that the file is the same wherever it is made."""

    def pick(slot: str, options: Sequence[str]) -> str:
        digest = hashlib.sha256(f"{key}:{slot}".encode()).digest()
        return options[int.from_bytes(digest[:8], "big") % len(options)]

    return pick


def _noun(noun: str, plural: bool) -> str:
    return noun + "s" if plural else noun


def _verb(verb: str, plural: bool) -> str:
    return verb if plural else verb + "s"


def _main_verb(pick: Pick, lexical: Sequence[str]) -> Verb:
    """Singular and plural: an auxiliary in half of the items, else a full verb."""
    singular = [forms[0] for forms in AUXILIARIES] + [f" {verb}s" for verb in lexical]
    chosen = pick("verb", singular)
    return chosen, dict(AUXILIARIES).get(chosen, chosen[:-1])


def _different(pick: Pick, nouns: Sequence[str], *slots: str) -> list[str]:
    """A noun for the subject and for each of these slots, all different."""
    found: list[str] = []
    for slot in ("subject", *slots):
        found.append(pick(slot, [noun for noun in nouns if noun not in found]))
    return found


def _sentence(pick: Pick, subject: str, phrase: str, lexical: Sequence[str]) -> tuple[str, Verb]:
    """A lead-in, the subject and what is said of it; and the verbs that may follow."""
    return f"{pick('lead', LEADS)} {subject}{phrase}", _main_verb(pick, lexical)


def _simple(pick: Pick, plural: bool, attractor: bool) -> tuple[str, Verb]:
    subject = _noun(pick("subject", PEOPLE), plural)
    return _sentence(pick, subject, "", ACTIONS)


def _place(pick: Pick, plural: bool, attractor: bool) -> tuple[str, Verb]:
    subject, other = _different(pick, THINGS, "attractor")
    phrase = f" {pick('place', PLACES)} the {_noun(other, attractor)}"
    return _sentence(pick, _noun(subject, plural), phrase, STATES)


def _subject_relative(pick: Pick, plural: bool, attractor: bool) -> tuple[str, Verb]:
    subject, other = _different(pick, PEOPLE, "attractor")
    clause = f" who {_verb(pick('relation', RELATIONS), plural)} the {_noun(other, attractor)}"
    return _sentence(pick, _noun(subject, plural), clause, ACTIONS)


def _that(pick: Pick, noun: str, place: str, plural: bool) -> str:
    """An object relative clause about ``noun``, which may be at a ``place``."""
    return f" that the {_noun(noun, plural)}{place} {_verb(pick('relation', RELATIONS), plural)}"


def _object_relative(pick: Pick, plural: bool, attractor: bool) -> tuple[str, Verb]:
    subject, other = _different(pick, PEOPLE, "attractor")
    return _sentence(pick, _noun(subject, plural), _that(pick, other, "", attractor), ACTIONS)


def _bare_relative(pick: Pick, plural: bool, attractor: bool) -> tuple[str, Verb]:
    context, verb = _object_relative(pick, plural, attractor)
    return context.replace(" that the ", " the "), verb


def _relative_and_place(pick: Pick, plural: bool, attractor: bool) -> tuple[str, Verb]:
    subject, other, third = _different(pick, PEOPLE, "attractor", "third")
    place = f" {pick('place', PLACES)} the {_noun(third, not attractor)}"
    return _sentence(pick, _noun(subject, plural), _that(pick, other, place, attractor), ACTIONS)


def _two_relatives(pick: Pick, plural: bool, attractor: bool) -> tuple[str, Verb]:
    subject, other, third = _different(pick, PEOPLE, "attractor", "third")
    inner = f"who {_verb(pick('inner', RELATIONS), attractor)} the {_noun(third, attractor)}"
    relation = _verb(pick("relation", RELATIONS), attractor)
    clause = f"that the {_noun(other, attractor)} {inner} {relation}"
    return f"{pick('lead', LEADS)} {_noun(subject, plural)} {clause}", _main_verb(pick, ACTIONS)


def _coordination(pick: Pick, plural: bool, attractor: bool) -> tuple[str, Verb]:
    subject, other = _different(pick, PEOPLE, "attractor")
    first = f"{_verb(pick('relation', RELATIONS), plural)} the {_noun(other, attractor)}"
    verb = pick("verb", ("like", "want", "hope", "need"))
    context = f"{pick('lead', LEADS)} {_noun(subject, plural)} often {first} and"
    return context, (f" {verb}s", f" {verb}")


# How to build a structure, and how many items of it.
STRUCTURES: dict[str, tuple[Build, int]] = {
    "simple": (_simple, 40),
    "place": (_place, 64),
    "coordination": (_coordination, 40),
    "subject-relative": (_subject_relative, 48),
    "object-relative": (_object_relative, 64),
    "bare-relative": (_bare_relative, 64),
    "relative-and-place": (_relative_and_place, 48),
    "two-relatives": (_two_relatives, 32),
}
