"""From words to a subcommand, and from what becomes of it to an exit code."""

from __future__ import annotations

import argparse
import shlex
import sys
import traceback
from collections.abc import Sequence
from importlib.metadata import version
from typing import NoReturn, Protocol

from pytest_sparsity.cli import compare, device, findings, gate, history, models, targets, train
from pytest_sparsity.cli import list as list_command
from pytest_sparsity.cli.parser import Parser, command_lines, sentence
from pytest_sparsity.core.errors import NotWritten, SparsityError
from pytest_sparsity.core.exit_codes import ExitCode
from pytest_sparsity.core.signals import exit_with, interrupt_on_sigterm

PROG = "pytest-sparsity"


class Command(Protocol):
    """A module with a subcommand."""

    SUMMARY: str

    def add_arguments(self, parser: Parser) -> None:
        """Add what it takes."""

    def run(self, given: argparse.Namespace) -> ExitCode:
        """Do it."""


COMMANDS: dict[str, Command] = {
    "gate": gate,
    "compare": compare,
    "train": train,
    "findings": findings,
    "history": history,
    "targets": targets,
    "device": device,
    "list": list_command,
    "models": models,
}


def console() -> NoReturn:
    """The console script."""
    exit_with(main)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit code.  Mistakes of the user are one sentence."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    undo = interrupt_on_sigterm()
    try:
        given = _parsed(words)
        code: ExitCode = given.run(given)
    except SparsityError as error:
        print(f"ERROR: {error}", file=sys.stderr)
        code = ExitCode.NOT_WRITTEN if isinstance(error, NotWritten) else ExitCode.USAGE
    except KeyboardInterrupt:
        print(f"{PROG}: interrupted (exit code {ExitCode.INTERRUPTED})", file=sys.stderr)
        code = ExitCode.INTERRUPTED
    except BrokenPipeError:
        raise  # the reader has left: exit_with deals with it
    except Exception:
        traceback.print_exc()
        code = ExitCode.INTERNAL_ERROR
    finally:
        undo()
    return code


def moved(before: str, *command: str) -> NoReturn:
    """What is left for one release of a command that is a subcommand now: say so, and run that."""
    now = shlex.join([PROG, *command])
    print(f"{before} goes away with the next release: use `{now}`", file=sys.stderr)
    exit_with(lambda: main([*command, *sys.argv[1:]]))


def _parsed(words: Sequence[str]) -> argparse.Namespace:
    # argparse is no help with "--": what stands behind it is not ours.
    end = words.index("--") if "--" in words else len(words)
    given = _parser().parse_args(words[:end])
    given.passed = list(words[end + 1 :])
    given.line = shlex.join([PROG, *words])
    if given.passed and given.command != "gate":
        raise SparsityError(
            f"{PROG} {given.command}: nothing stands behind `--`; leave {given.passed[0]!r} out"
        )
    return given


def _parser() -> Parser:
    parser = Parser(
        prog=PROG,
        description="What belongs to pytest --sparsity-sweep and is no test: gates for pipelines, "
        "training, pages and pictures of results, plans for hardware, and what there is to choose "
        "from.",
        epilog="exit codes, of pytest with this plugin too:\n"
        + command_lines({str(code.value): code.meaning for code in ExitCode}),
    )
    parser.add_argument(
        "--version", action="version", version=f"{PROG} {version('pytest-sparsity')}"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, module in COMMANDS.items():
        own = commands.add_parser(name, help=module.SUMMARY, description=sentence(module.SUMMARY))
        own.set_defaults(run=module.run)
        module.add_arguments(own)
    return parser
