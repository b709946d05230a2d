"""From words to a subcommand and an exit code: help, mistakes, pipes, interruption, old names."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import pytest

from pytest_sparsity.cli import history
from pytest_sparsity.cli.list import KINDS
from pytest_sparsity.cli.main import COMMANDS, main
from pytest_sparsity.core.exit_codes import ExitCode

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "numpy", "scipy", "transformers", "triton", "numba", "matplotlib", "hypothesis")
EVERY = [
    *([name] for name in COMMANDS),
    *(["train", kind] for kind in ("vectors", "predictors")),
    *(["list", kind] for kind in KINDS),
]


def run(*words: str, **changes: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "pytest_sparsity", *words],
        capture_output=True,
        text=True,
        env={**os.environ, **changes},
        check=False,
    )


@pytest.mark.parametrize("words", [[], *EVERY], ids=" ".join)
def test_help(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([*words, "--help"])
    assert ended.value.code == ExitCode.OK
    output = capsys.readouterr().out
    assert output.startswith(" ".join(["usage: pytest-sparsity", *words]))
    assert "%%" not in output


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == ExitCode.OK
    assert capsys.readouterr().out == f"pytest-sparsity {version('pytest-sparsity')}\n"


def test_help_names_every_command_and_exit_code(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    output = " ".join(capsys.readouterr().out.split())
    for name, command in COMMANDS.items():
        assert f"{name} {command.SUMMARY}" in output
    for code in ExitCode:
        assert f" {code.value} {code.meaning}" in output


def test_help_of_everything_imports_nothing_heavy() -> None:
    program = f"""
import contextlib, io, sys
from pytest_sparsity.cli.main import main
for words in {[[], *EVERY]!r}:
    with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
        main([*words, "--help"])
    found = set(sys.modules) & {set(HEAVY)!r}
    assert not found, (words, found)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "pytest-sparsity: the following arguments are required: COMMAND; see"),
        (["gates"], "argument COMMAND: invalid choice: 'gates' (choose from"),
        (["list"], "pytest-sparsity list: the following arguments are required: KIND; see"),
        (["list", "model"], "argument KIND: invalid choice: 'model' (choose from"),
        (["list", "models", "--jso"], "unrecognized arguments: --jso; see"),
        (["train", "model"], "argument WHAT: invalid choice: 'model' (choose from"),
        (["history"], "the following arguments are required: file; see"),
        (["history", "nowhere.jsonl"], "FILE nowhere.jsonl: there is no such file; a sweep with"),
        (["findings", "nowhere"], "cannot read nowhere/findings.jsonl: No such file or directory"),
        (["list", "ops", "--", "x"], "nothing stands behind `--`; leave 'x' out"),
        (["targets", "--rows", "x"], "argument --rows: invalid int value: 'x'"),
    ],
)
def test_mistakes_are_one_sentence(
    refused: Callable[..., str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    sentence: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sentence in refused(*words)


def test_a_mistake_in_a_process_of_its_own() -> None:
    done = run("list", "nothing")
    assert (done.returncode, done.stdout) == (ExitCode.USAGE, "")
    assert done.stderr.startswith("ERROR: ")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["--help"], ["list", "targets"], ["list", "models", "--json"], ["targets", "--help"]]
)
def test_a_reader_that_leaves(words: list[str]) -> None:
    """``| head -1`` ends quietly; a pipe that is closed at once leaves nothing to chance."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "pytest_sparsity", *words]
    with os.fdopen(writing, "wb") as pipe:
        done = subprocess.run(
            command, stdout=pipe, stderr=subprocess.PIPE, env=buffered, text=True, check=False
        )
    assert (done.returncode, done.stderr) == (ExitCode.BROKEN_PIPE, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interruption_is_one_line(tmp_path: Path, number: int) -> None:
    """The file is a pipe into which nothing is written, so that the command waits in it."""
    os.mkfifo(tmp_path / "h.jsonl")
    started = subprocess.Popen(
        [sys.executable, "-m", "pytest_sparsity", "history", str(tmp_path / "h.jsonl")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with (tmp_path / "h.jsonl").open("w"):  # returns once the command has opened it
        started.send_signal(number)
        output, errors = started.communicate(timeout=60)
    assert (output, errors) == ("", "pytest-sparsity: interrupted (exit code 2)\n")
    assert started.returncode == ExitCode.INTERRUPTED


def test_a_defect_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(given: object) -> ExitCode:
        raise ZeroDivisionError("of ours")

    monkeypatch.setattr(history, "run", broken)
    assert main(["history", "x"]) == ExitCode.INTERNAL_ERROR
    assert "ZeroDivisionError: of ours" in capsys.readouterr().err


# -- exit codes --------------------------------------------------------------------------


def test_codes_of_pytest_keep_their_meaning() -> None:
    names = {
        ExitCode.OK: "OK",
        ExitCode.FAILED: "TESTS_FAILED",
        ExitCode.INTERRUPTED: "INTERRUPTED",
        ExitCode.INTERNAL_ERROR: "INTERNAL_ERROR",
        ExitCode.USAGE: "USAGE_ERROR",
        ExitCode.NOTHING: "NO_TESTS_COLLECTED",
        ExitCode.WARNINGS: "MAX_WARNINGS_ERROR",  # of pytest 9.1 and later
    }
    assert {code.value: code.name for code in pytest.ExitCode}.items() <= {
        code.value: name for code, name in names.items()
    }.items()
    assert min(set(ExitCode) - set(names)) > max(pytest.ExitCode) + 1


def test_each_code_has_one_meaning() -> None:
    assert len(ExitCode.__members__) == len(set(ExitCode))  # no alias
    assert len({code.meaning for code in ExitCode}) == len(ExitCode)


@pytest.mark.parametrize("page", ["README.md", "docs/command-line.md"])
def test_pages_have_the_table(page: str) -> None:
    rows = [f"| {code.value} | {code.meaning} |" for code in ExitCode]
    table = "\n".join(["| exit code | meaning |", "|---|---|", *rows, ""])
    assert f"{table}\n" in (ROOT / page).read_text(encoding="utf-8")


def _bare(path: Path) -> list[str]:
    """Places where a number, and not a name of the table, becomes an exit code."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Call(func=ast.Attribute(attr="exit" | "_exit"), args=[argument, *_]):
                pass
            case ast.Call(
                func=ast.Name(id="SystemExit" | "exit" | "ExitCode"), args=[argument, *_]
            ):
                pass
            case ast.Assign(targets=[ast.Attribute(attr="exitstatus")], value=argument):
                pass
            case ast.FunctionDef(name="main" | "run" | "conclusion"):
                returned = [n.value for n in ast.walk(node) if isinstance(n, ast.Return)]
                found += [
                    f"{path.name}:{value.lineno}"
                    for value in returned
                    for part in (value.elts if isinstance(value, ast.Tuple) else [value])
                    if isinstance(part, ast.Constant) and isinstance(part.value, int)
                ]
                continue
            case _:
                continue
        if isinstance(argument, ast.Constant):
            found.append(f"{path.name}:{argument.lineno}")
    return found


def test_no_code_is_written_as_a_number(tmp_path: Path) -> None:
    package = ROOT / "pytest_sparsity"
    files = [
        *(package / "cli").rglob("*.py"),
        *(package / "plugin").rglob("*.py"),
        *(package / "__main__.py", package / "core" / "moved.py", package / "core" / "signals.py"),
    ]
    assert [place for file in files for place in _bare(file)] == []
    bad = tmp_path / "bad.py"
    bad.write_text("import sys\ndef run(g):\n    return 3\nsys.exit(2)\nraise SystemExit(1)\n")
    assert sorted(_bare(bad)) == ["bad.py:3", "bad.py:4", "bad.py:5"]


# -- what is left of the old ways ----------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "code", "told"),
    [
        (["ci/gate", "--against=x", "--update"], "gate", 4, "--update stores a run"),
        (["ci/findings.py", "nowhere"], "findings --docs=", 4, "cannot read nowhere/"),
        (["ci/train_vectors.py", "--steps=0"], "train vectors --out=", 4, "--steps 0: at least"),
        (["ci/train_vectors.py", "--cache", "--steps=0"], "train vectors`", 4, "--steps 0: at"),
        (["-m", "pytest_sparsity.history", "nowhere"], "history`", 4, "FILE nowhere: there is no"),
        (["-m", "pytest_sparsity.predictors"], "train predictors`", 4, "nothing to write"),
        (["-m", "pytest_sparsity.targets", "--rows=0"], "targets`", 4, "rows 0"),
    ],
)
def test_the_old_ways_run_the_new_ones(
    old: list[str], new: str, code: int, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    done = subprocess.run([sys.executable, *old], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (code, "")
    moved, error = done.stderr.splitlines()
    assert f"goes away with the next release: use `pytest-sparsity {new}" in moved
    assert error.startswith("ERROR: ")
    assert told in error


def test_the_old_list_of_targets() -> None:
    old = [sys.executable, "-m", "pytest_sparsity.targets", "--list"]
    done = subprocess.run(old, capture_output=True, text=True, check=True)
    assert "use `pytest-sparsity list targets`" in done.stderr
    assert "h200" in done.stdout
    assert os.access(ROOT / "ci" / "gate", os.X_OK)


def test_no_page_tells_of_the_old_ways() -> None:
    modules = [f"-m pytest_sparsity.{name}" for name in ("history", "predictors", "targets")]
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob(".github/workflows/*.yml")]
    for page in [*pages, ROOT / "Makefile", ROOT / "ci" / "action" / "action.yml"]:
        text = page.read_text(encoding="utf-8")
        if page.name == "CHANGELOG.md":
            text = text.partition("### Deprecated")[0]
        text = text.partition("## What it replaces")[0]
        for old in ("ci/gate", "train_vectors.py", "ci/findings.py", *modules):
            assert old not in text, page
