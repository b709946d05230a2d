"""The workflows and the action: by actionlint where it is installed, and by rules of our own."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pytest_sparsity.cli.main import COMMANDS

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
ACTION = ROOT / "ci" / "action" / "action.yml"
EVERYTHING = [*WORKFLOWS, ACTION]
EXPRESSION = re.compile(r"\$\{\{(.*?)\}\}", re.DOTALL)
KEYS = {
    "workflow": {"name", "on", "permissions", "concurrency", "env", "jobs"},
    "job": {
        *("runs-on", "timeout-minutes", "steps", "strategy", "if", "uses", "with", "needs"),
        *("permissions", "env", "outputs"),
    },
    "step": {"name", "id", "if", "uses", "with", "run", "env", "shell", "working-directory"},
    "input": {"description", "type", "default", "required"},
}
CONTEXTS = {"github", "inputs", "matrix", "runner", "steps", "env", "needs"}

pytestmark = pytest.mark.skipif(not WORKFLOWS, reason="the sdist has no .github")


def load(path: Path) -> dict[str, Any]:
    content = yaml.safe_load(path.read_text())
    if True in content:  # YAML 1.1 reads the key "on" as true
        content["on"] = content.pop(True)
    return dict(content)


def jobs(path: Path) -> dict[str, Any]:
    return {} if path == ACTION else dict(load(path)["jobs"])


def steps(path: Path) -> list[dict[str, Any]]:
    if path == ACTION:
        return list(load(path)["runs"]["steps"])
    return [step for job in jobs(path).values() for step in job.get("steps", [])]


def inputs(path: Path) -> dict[str, Any]:
    content = load(path)
    if path == ACTION:
        return dict(content["inputs"])
    on = content["on"]
    return dict(on["workflow_call"]["inputs"]) if "workflow_call" in on else {}


def uses(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for place in (*jobs(path).values(), *steps(path)):
        if "uses" in place:
            yield place["uses"], place.get("with", {})


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="actionlint is not installed")
def test_actionlint():
    done = subprocess.run(["actionlint", *map(str, WORKFLOWS)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_all_are_there():
    names = {path.name for path in WORKFLOWS}
    assert names == {"ci.yml", "nightly.yml", "sparsity.yml"}


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.name)
def test_workflow_has_known_keys(path):
    content = load(path)
    assert set(content) <= KEYS["workflow"]
    assert "permissions" in content, "the token may do what is named, and no more"
    for name, job in content["jobs"].items():
        assert set(job) <= KEYS["job"], name
        assert ("runs-on" in job) != ("uses" in job), name
        assert "uses" in job or {"steps", "timeout-minutes"} <= set(job), name
        for needed in job.get("needs", []):
            assert needed in content["jobs"]


def test_action_is_composite():
    content = load(ACTION)
    assert set(content) == {"name", "description", "inputs", "outputs", "runs"}
    assert content["runs"]["using"] == "composite"
    for step in steps(ACTION):
        assert ("shell" in step) == ("run" in step), "a composite step names its shell"


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda p: p.name)
def test_steps(path):
    ids = [step["id"] for step in steps(path) if "id" in step]
    assert len(set(ids)) == len(ids)
    for step in steps(path):
        assert set(step) <= KEYS["step"], step
        assert ("run" in step) != ("uses" in step), step
        if "run" in step:
            # What comes from outside goes through the environment, where it is no code.
            assert not EXPRESSION.search(step["run"]), step["run"]
            subprocess.run(["bash", "-n"], input=step["run"], text=True, check=True)


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda p: p.name)
def test_inputs_and_contexts(path):
    declared = inputs(path)
    for name, content in declared.items():
        assert set(content) <= KEYS["input"], name
        assert content["description"], name
    ids = {step.get("id") for step in steps(path)}
    for expression in EXPRESSION.findall(path.read_text()):
        plain = re.sub(r"'[^']*'", "", expression)
        for context, field in re.findall(r"(?<![.\w])([a-z]+)\.([a-zA-Z_-]+)", plain):
            assert context in CONTEXTS, expression
            assert context != "inputs" or field in declared, expression
            assert context != "steps" or field in ids, expression
    used = set(re.findall(r"\binputs\.([a-z-]+)", path.read_text()))
    assert used == set(declared), "an input that nothing reads"


@pytest.mark.parametrize("path", EVERYTHING, ids=lambda p: p.name)
def test_what_is_used_exists_and_takes_that(path):
    for name, given in uses(path):
        local = re.fullmatch(r"\./(?:\.pytest-sparsity/)?(.+)", name)
        if local is None:
            assert re.fullmatch(r"actions/[a-z-]+@v\d+", name), f"{name} has no version"
            continue
        target = ROOT / local[1]
        target = target / "action.yml" if target.is_dir() else target
        assert target in EVERYTHING
        assert set(given) <= set(inputs(target)), f"{path.name} gives {name} what it does not take"


def test_script_paths_exist():
    text = "\n".join(step.get("run", "") for path in EVERYTHING for step in steps(path))
    assert ".ci/run" in text
    assert (ROOT / ".ci" / "run").exists()
    for command in set(re.findall(r"\bpytest-sparsity ([a-z]+)", text)):
        assert command in COMMANDS
    assert "pytest-sparsity gate" in text
    assert "ci/gate" not in text
    for name in set(re.findall(r"ci/constraints\S*", text)):
        assert (ROOT / name).exists()


def test_options_exist():
    """Every option of ours that a workflow passes is one."""
    from pytest_sparsity.settings.options import OPTIONS

    known = {option.name for option in OPTIONS}
    texts = [path.read_text() for path in EVERYTHING] + [
        (ROOT / "pytest_sparsity" / "cli" / "gate.py").read_text()
    ]
    for text in texts:
        found = set(re.findall(r"--sparsity-([a-z]+(?:-[a-z]+)*)", text))
        assert found <= known, found - known
