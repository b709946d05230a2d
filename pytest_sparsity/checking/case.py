"""What makes one set of operands, small enough to print on a line."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from pytest_sparsity.core.errors import SparsityError

#: Of an op's own parameter.
Value = bool | int | float | str | tuple[int, ...]

#: Fields that are sizes; an op has some of them.
SIZES = ("rows", "k", "n")

#: Which channels are active, and what the activations are; see ``activations``.
PATTERNS = (
    "random",
    "all",
    "none",
    "one",
    "first",
    "last",
    "alternating",
    "blocks",
    "ties",
    "zeros",
    "denormal",
    "inexact",
    "rows_differ",
    "large",
    "overflow",
    "infinite",
    "nan",
)

#: Of MLPs: arguments of the activation function whose exponentials leave float32.
SATURATED = "saturated"

#: What the weights are: LLM-like, LLM-like and small, integers whose float32 sums are exact.
VALUES = ("normal", "small", "integer")

#: Where the weights lie in memory; ``best`` is what each op reads fastest.
LAYOUTS = (
    "best",
    "input_major",
    "output_major",
    "pitch",
    "column_slice",
    "offset",
    "strided",
)


@dataclass(frozen=True)
class Case:
    """Everything that operands follow from; ``str(case)`` is a line that ``parse`` reads.

    What an op makes of it, and which values it takes, is in the op's record.

    Attributes:
        rows: of x; 0 for an op that has none.
        k: channels of x; 0 likewise.
        n: outputs; 0 likewise.
        dtype: of activations and of float weights.
        level: share of the channels that is inactive, 0 to 1, where the pattern leaves it open.
        pattern: which channels are active, one of ``PATTERNS`` or of the op's own.
        values: one of ``VALUES``.
        layout: one of ``LAYOUTS``.
        bias: whether there is one.
        seed: of all that is random.
        options: names and values of the op's own parameters; others are at their defaults.
    """

    rows: int = 0
    k: int = 0
    n: int = 0
    dtype: str = "float32"
    level: float = 0.5
    pattern: str = "random"
    values: str = "normal"
    layout: str = "best"
    bias: bool = False
    seed: int = 0
    options: tuple[tuple[str, Value], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "options", tuple(sorted(self.options)))
        for name in (*SIZES, "seed"):
            if getattr(self, name) < 0:
                raise SparsityError(f"case: {name}={getattr(self, name)}: give at least 0")
        if not 0 <= self.level <= 1:
            raise SparsityError(f"case: level={self.level}: give 0 to 1")
        for name, known in (("values", VALUES), ("layout", LAYOUTS)):
            if getattr(self, name) not in known:
                raise SparsityError(
                    f"case: {name}={getattr(self, name)}: use one of {', '.join(known)}"
                )

    def __str__(self) -> str:
        values = {field.name: getattr(self, field.name) for field in fields(self)[:-1]}
        shown = {name: v for name, v in values.items() if name in _ALWAYS or v != _DEFAULTS[name]}
        return " ".join(f"{name}={_text(v)}" for name, v in (*shown.items(), *self.options))

    def option(self, name: str, default: Any) -> Any:
        """The value of an op's own parameter."""
        return dict(self.options).get(name, default)

    def with_options(self, **values: Value) -> Case:
        """The same case with some of the op's own parameters set."""
        return replace(self, options=tuple((dict(self.options) | values).items()))

    @classmethod
    def parse(cls, text: str) -> Case:
        """The case that prints as ``text``; what is not mentioned is at its default.

        Raises:
            SparsityError: a word is not ``name=value``, a name is given twice, or a value is
                impossible.
        """
        given: dict[str, Any] = {}
        options: dict[str, Value] = {}
        for word in text.split():
            name, equals, value = word.partition("=")
            if not equals or not name:
                raise SparsityError(f"case: {word!r} is not of the form name=value")
            home: dict[str, Any] = given if name in _DEFAULTS else options
            if name in home:
                raise SparsityError(f"case: {name}= is given twice")
            home[name] = _value(name, value) if name in _DEFAULTS else _guessed(value)
        return cls(**given, options=tuple(options.items()))


_DEFAULTS: dict[str, Any] = {f.name: f.default for f in fields(Case) if f.name != "options"}
#: Shown even at their defaults: what a reader asks first.
_ALWAYS = ("dtype", "level", "seed")
#: What a value of a type looks like.
EXAMPLES: dict[type, str] = {
    bool: "yes or no",
    float: "a number",
    int: "an integer",
    tuple: "integers as in 2:4",
    str: "a word",
}
_WORDS = {"yes": True, "no": False}


def _text(value: Value | float) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, tuple):
        return ":".join(map(str, value))
    return str(value)


def _value(name: str, text: str) -> Any:
    """A value of the type that this field has."""
    kind = type(_DEFAULTS[name])
    try:
        return _WORDS[text] if kind is bool else kind(text)
    except (KeyError, ValueError):
        raise SparsityError(f"case: {name}={text}: give {EXAMPLES[kind]}") from None


def _guessed(text: str) -> Value:
    """A value of an op's own parameter; how it is written tells its type."""
    if text in _WORDS:
        return _WORDS[text]
    if ":" in text:
        try:
            return tuple(int(part) for part in text.split(":"))
        except ValueError:
            return text
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
