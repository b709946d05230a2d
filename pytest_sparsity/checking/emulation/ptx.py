"""Inline PTX of kernels: what an instruction does, in C++, for those that are emulated.

Works on preprocessed source, so that what a macro or a condition hides is seen as it is.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

_ASM = re.compile(r"\b(?:asm|__asm__|__asm)\b\s*(?:(?:volatile|__volatile__|__volatile)\b\s*)?\(")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')
_LINE = re.compile(r'^# (\d+) "([^"]*)"', re.M)
#: Of loads and stores: how many numbers there are at once, and what each of them is.
_MOVE = re.compile(
    r"(ld|st)\.(global|shared|const|local)?[\w.:]*?(?:\.(v2|v4))?\.([busf])(8|16|32|64)$"
)
_TYPES = {
    "f32": "float", "f64": "double", "b8": "unsigned char", "u8": "unsigned char",
    "s8": "signed char", "b16": "unsigned short", "u16": "unsigned short", "s16": "short",
    "b32": "unsigned", "u32": "unsigned", "s32": "int", "b64": "unsigned long long",
    "u64": "unsigned long long", "s64": "long long",
}  # fmt: skip

#: Instructions of numbers: the first operand is the result.
_NUMBERS = {
    "cvt.f32.f16": "emulation_half_value({1})",
    "cvt.rn.f16.f32": "emulation_half_bits({1})",
    "cvt.f32.bf16": "emulation_bfloat16_value({1})",
    "cvt.rn.bf16.f32": "emulation_bfloat16_bits({1})",
    "ex2.approx.f32": "std::exp2({1})",
    "ex2.approx.ftz.f32": "std::exp2({1})",
    "lg2.approx.f32": "std::log2({1})",
    "lg2.approx.ftz.f32": "std::log2({1})",
    "rcp.approx.f32": "1.0f / ({1})",
    "rcp.approx.ftz.f32": "1.0f / ({1})",
    "rsqrt.approx.f32": "rsqrtf({1})",
    "rsqrt.approx.ftz.f32": "rsqrtf({1})",
    "sqrt.approx.f32": "std::sqrt({1})",
    "tanh.approx.f32": "std::tanh({1})",
    "fma.rn.f32": "std::fma({1}, {2}, {3})",
    "mov.u32": "{1}",
    "mov.b32": "{1}",
    "mov.f32": "{1}",
}
_SPECIAL = {"%laneid": "emulation_lane()"}


@dataclass(frozen=True)
class Unknown:
    """An instruction that is not emulated: which one, and where it stands."""

    instruction: str
    place: str

    def __str__(self) -> str:
        return f"inline PTX {self.instruction!r}, {self.place}"


class _NotEmulated(Exception):
    """Holds the instruction."""


def translated(text: str) -> str | Unknown:
    """The preprocessed source with its inline PTX in C++; or the first that is not emulated."""
    parts, end = [], 0
    for start, stop, inside in _statements(text):
        try:
            code = _translated(inside)
        except _NotEmulated as error:
            return Unknown(str(error), _place(text, start))
        lines = text.count("\n", start, stop)
        parts += [text[end:start], code, "\n" * lines]
        end = stop
    return "".join([*parts, text[end:]])


def _statements(text: str) -> Iterator[tuple[int, int, str]]:
    """Where each assembler statement begins and ends, and what is between its parentheses.

    Declarations that give a function another name (``void f() __asm__("g");``) are left out.
    """
    for found in _ASM.finditer(text):
        if text[: found.start()].rstrip()[-1:] == ")" and _renames(text, found.start()):
            continue
        depth, at = 1, found.end()
        while depth:
            character = text[at]
            if character == '"':
                string = _STRING.match(text, at)
                assert string is not None  # the preprocessor went through it
                at = string.end()
                continue
            depth += (character == "(") - (character == ")")
            at += 1
        yield found.start(), at, text[found.end() : at - 1]


def _renames(text: str, start: int) -> bool:
    """Whether what stands before is a declaration of a function, and no condition or loop."""
    line = text[text.rfind("\n", 0, start) + 1 : start]
    return re.search(r"\b(if|for|while|switch|else)\b", line) is None


def _translated(inside: str) -> str:
    template, *lists = _split(inside, ":")
    strings = "".join(_STRING.findall(template)).replace(r"\n", "\n").replace(r"\t", " ")
    operands = [_operand(each) for part in lists[:2] for each in _split(part, ",") if each.strip()]
    code = []
    for instruction in re.split(r"[;\n]", re.sub(r"//[^\n]*", "", strings).replace("%%", "%")):
        words = " ".join(instruction.split())
        if words not in ("", "{", "}"):
            code.append(_instruction(words, operands))
    return "do { " + " ".join(code) + " } while (0)"


def _operand(text: str) -> str:
    """The expression of ``"=f"(expression)``."""
    found = re.match(r'\s*(?:\[\w+\]\s*)?"[^"]*"\s*\((.*)\)\s*$', text, re.S)
    if found is None:
        raise _NotEmulated(text.strip())
    return f"({found[1]})"


def _instruction(words: str, operands: Sequence[str]) -> str:
    name, _, rest = words.partition(" ")
    given = [_named(each.strip(), operands) for each in _split(rest, ",") if each.strip()]
    make = _make(name)
    if "%[" in words:  # operands by name
        raise _NotEmulated(words)
    try:
        return make(given)
    except (IndexError, KeyError):
        raise _NotEmulated(words) from None


def _make(name: str) -> Callable[[Sequence[str]], str]:
    """What makes C++ of an instruction's operands."""
    if name.startswith(("cp.async.ca.shared", "cp.async.cg.shared")):
        return _copy
    if name == "cp.async.commit_group":
        return lambda given: "emulation::emulation_commit();"
    if name == "cp.async.wait_group":
        return lambda given: f"emulation::emulation_wait({given[0]});"
    if name == "cp.async.wait_all":
        return lambda given: "emulation::emulation_commit(), emulation::emulation_wait(0);"
    if name.startswith(("prefetch.", "discard.")):
        return lambda given: "(void)0;"
    if name in ("membar.gl", "membar.cta", "membar.sys") or name.startswith("fence.acq_rel"):
        return lambda given: "emulation::emulation_fence();"
    if name in _NUMBERS:
        return lambda given: f"{given[0]} = {_NUMBERS[name].format(*given)};"
    move = _MOVE.match(name)
    if move is not None:
        return lambda given: _moved(move, given)
    raise _NotEmulated(name)


def _copy(given: Sequence[str]) -> str:
    to, source, size = given[0], given[1], given[2]
    filled = given[3] if len(given) > 3 else size
    target = f"__cvta_shared_to_generic((std::size_t){_address(to)})"
    return (
        f"emulation::emulation_copy({target}, (const void*){_address(source)}, {size}, {filled});"
    )


def _moved(move: re.Match[str], given: Sequence[str]) -> str:
    kind, space, several, sort, bits = move.groups()
    count = int(several[1:]) if several else 1
    one = _TYPES[f"{sort}{bits}"]
    memory, *_ = [each for each in given if each.startswith("[")]
    lists = [each.strip("{} ") for each in given if not each.startswith("[")]
    values = [value.strip() for each in lists for value in _split(each, ",")]
    if len(values) != count:
        raise IndexError
    address = f"(char*){_address(memory)}"
    if space == "shared":
        address = f"(char*)__cvta_shared_to_generic((std::size_t){_address(memory)})"
    # A vector is one access, and must be aligned as a whole.
    vector = f"emulation_vector<{one}, {count}>"
    if kind == "ld":
        into = " ".join(
            f"__builtin_memcpy(&{value}, &loaded.each[{i}], sizeof loaded.each[{i}]);"
            for i, value in enumerate(values)
        )
        return f"{{ {vector} loaded = *({vector}*)({address}); {into} }}"
    out = " ".join(
        f"{{ auto value = {value}; __builtin_memcpy(&stored.each[{i}], &value, "
        f"sizeof stored.each[{i}]); }}"
        for i, value in enumerate(values)
    )
    return f"{{ {vector} stored; {out} *({vector}*)({address}) = stored; }}"


def _address(operand: str) -> str:
    if not operand.startswith("["):
        raise IndexError
    base, plus, offset = operand.strip("[]").partition("+")
    return f"((unsigned long long)({base}) + {offset.strip()})" if plus else f"({base})"


def _named(operand: str, operands: Sequence[str]) -> str:
    """``%0`` in the words of an instruction as the expression that it stands for."""
    for special, meaning in _SPECIAL.items():
        operand = operand.replace(special, meaning)
    return re.sub(r"%(\d+)", lambda found: operands[int(found[1])], operand)


def _split(text: str, at: str) -> list[str]:
    """``text`` in parts, at what stands outside of strings and parentheses."""
    parts, depth, start, i = [], 0, 0, 0
    while i < len(text):
        character = text[i]
        if character == '"':
            string = _STRING.match(text, i)
            i = string.end() if string else i + 1
            continue
        double = at == ":" and text[i : i + 2] == "::" and depth == 0
        if character in "([{":
            depth += 1
        elif character in ")]}":
            depth -= 1
        elif character == at and depth == 0:
            parts.append(text[start:i])
            start = i + 1
            if double:  # an empty list of operands
                parts.append("")
                i += 1
                start = i + 1
        i += 1
    return [*parts, text[start:]]


def _place(text: str, at: int) -> str:
    """File and line of the original source."""
    markers = list(_LINE.finditer(text, 0, at))
    if not markers:
        return f"line {text.count(chr(10), 0, at) + 1}"
    last = markers[-1]
    line = int(last[1]) + text.count("\n", last.end(), at) - 1
    return f"{last[2].rpartition('/')[2]}, line {line}"
