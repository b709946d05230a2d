"""What the metadata say of versions is what is tried: by ``.ci/run`` and by the workflows."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parent.parent
#: That of `make test-lowest`, in terms of markers of requirements.
LOWEST = {
    "python_version": "3.11",
    "platform_system": "Linux",
    "platform_machine": "x86_64",
    "extra": "",
}


def project() -> dict[str, Any]:
    found: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return found


def floors() -> dict[str, Version]:
    """The lowest version of each package that the distribution needs, by normal name."""
    listed = map(Requirement, project()["dependencies"])
    needed = [r for r in listed if r.marker is None or r.marker.evaluate(LOWEST)]
    return {canonicalize_name(r.name): _floor(r) for r in needed}


def _floor(requirement: Requirement) -> Version:
    (only,) = [each for each in requirement.specifier if each.operator == ">="]
    return Version(only.version)


def pins(name: str) -> dict[str, Version]:
    """The versions in a file of constraints, by normal name."""
    lines = (ROOT / "ci" / name).read_text().splitlines()
    listed = [Requirement(line) for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(r.name): Version(next(iter(r.specifier)).version) for r in listed}


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text())
    return found


def test_the_lowest_environment_has_the_floors() -> None:
    expected = floors()
    newest = pins("constraints.txt")
    expected["torch"] = newest["torch"]  # its floor is the workflow's, which has it without CUDA
    found = pins("constraints-lowest.txt")
    assert {name: found[name] for name in expected} == expected
    assert {"triton", "numpy", "transformers", "pytest", "hypothesis"} <= set(expected)


def test_the_pinned_environment_is_not_below_the_floors() -> None:
    newest = pins("constraints.txt")
    assert {name: floor for name, floor in floors().items() if newest[name] < floor} == {}


def test_both_constraints_are_used_by_make() -> None:
    makefile = (ROOT / "Makefile").read_text()
    assert "install --quiet -c ci/constraints.txt -e '.[dev]'" in makefile
    assert "install --quiet -c ci/constraints-lowest.txt -e . pytest-xdist" in makefile
    test_extra = {
        r.name: _floor(r) for r in map(Requirement, project()["optional-dependencies"]["dev"])
    }
    assert pins("constraints-lowest.txt")["pytest-xdist"] == test_extra["pytest-xdist"]


def test_every_folder_of_the_lowest_tests_is_there() -> None:
    rule = re.search(r"\ntest-lowest: \$.*?\n\n", (ROOT / "Makefile").read_text(), re.DOTALL)
    assert rule is not None
    folders = re.findall(r"tests/\w+", rule[0])
    assert [folder for folder in folders if not (ROOT / folder).is_dir()] == []
    assert {"tests/checking", "tests/kernels_triton", "tests/models"} <= set(folders)


def test_ci_runs_the_lowest_environment() -> None:
    assert "\n    step test-lowest\n" in (ROOT / ".ci" / "run").read_text()


def test_the_workflow_has_the_floors_of_python_and_torch() -> None:
    jobs = workflow("ci.yml")["jobs"]
    python = project()["requires-python"].removeprefix(">=")
    newest = max(
        (c.rpartition(" ")[2] for c in project()["classifiers"] if "Python :: 3." in c), key=Version
    )
    assert {python, newest} <= set(jobs["test"]["strategy"]["matrix"]["python"])
    assert jobs["test"]["steps"][-1]["run"] == ".ci/run"
    lowest = jobs["lowest"]["strategy"]["matrix"]["include"]
    assert {Version(each["torch"]) for each in lowest} == {floors()["torch"]}
    assert python in {each["python"] for each in lowest}
    assert jobs["lowest"]["steps"][-1]["run"] == "make test-lowest"


@pytest.mark.parametrize("name", ["ci.yml", "nightly.yml"])
def test_workflows_take_torch_without_cuda(name: str) -> None:
    assert workflow(name)["env"]["PIP_EXTRA_INDEX_URL"].endswith("/whl/cpu")


def test_the_guide_names_the_floors() -> None:
    guide = " ".join((ROOT / "CONTRIBUTING.md").read_text().split())
    (said,) = re.findall(r"Supported: (.*?)\. ", guide)
    assert f"Python {project()['requires-python'].removeprefix('>=')} to " in said
    for name in ("pytest", "torch", "transformers", "triton", "numpy"):
        assert f"{name} >= {floors()[name]}" in said, name
