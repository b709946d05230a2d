"""What GitHub Actions shows: annotations on lines of files, and the summary of a step.

https://docs.github.com/en/actions/reference/workflow-commands-for-github-actions
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

#: GitHub refuses the summary of a step beyond 1 MiB, and shows ten annotations of a kind per step.
SUMMARY_BYTES = 1 << 20
ANNOTATIONS = 10
_CUT = "\n\nCut here: the whole text is in the report.\n"


@dataclass(frozen=True)
class Annotation:
    """A message at a line.

    Attributes:
        level: ``error``, ``warning`` or ``notice``.
        title: one line.
        message: what is shown below it.
        file: path; None if it is about no file.
        line: from 1.
    """

    level: str
    title: str
    message: str
    file: Path | None = None
    line: int = 1


def command(annotation: Annotation, workspace: Path) -> str:
    """The line that makes GitHub show ``annotation``.

    Args:
        annotation: what to show.
        workspace: where the repository is checked out; a file outside it is named in the message.
    """
    message, places = annotation.message, []
    if annotation.file is not None:
        try:
            inside = annotation.file.resolve().relative_to(workspace.resolve())
            places = [f"file={_property(inside.as_posix())}", f"line={annotation.line}"]
        except ValueError:
            message = f"{annotation.file.name}:{annotation.line}: {message}"
    places.append(f"title={_property(annotation.title)}")
    return f"::{annotation.level} {','.join(places)}::{_data(message)}"


def add_to_summary(path: Path, markdown: str) -> None:
    """Append to the summary of the step, as far as GitHub takes it.

    Pictures are left out: a path in the report is nothing that GitHub could show there.
    """
    text = re.sub(r"^!\[[^\]]*\]\([^)]*\)\n*", "", markdown, flags=re.MULTILINE)
    data = f"{text}\n".encode()
    room = SUMMARY_BYTES - (path.stat().st_size if path.exists() else 0)
    if len(data) > room:
        kept = data[: max(0, room - len(_CUT))].decode(errors="ignore")
        data = f"{kept}{_CUT}".encode() if room > len(_CUT) else b""
    with path.open("ab") as stream:
        stream.write(data)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
