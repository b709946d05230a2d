"""What is installed is what is in the repository, under the right names and nothing more."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import zipfile
from pathlib import Path
from typing import Any

import pytest
from environments import ROOT, run
from environments import installed as environment_with

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LINKED = ("kernels", "reference", "suites")


def configuration() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def files_on_disk() -> set[str]:
    """Every file of the package as it must be installed, from the folders (links not followed)."""
    files = set()
    for top in ("pytest_sparsity", *LINKED):
        for folder, _, names in os.walk(ROOT / top):
            parts = Path(folder).relative_to(ROOT).parts
            package = parts if top == "pytest_sparsity" else ("pytest_sparsity", *parts)
            if parts[-1] != "__pycache__":
                files |= {"/".join((*package, name)) for name in names}
    return files


def test_every_package_is_listed() -> None:
    listed = configuration()["tool"]["setuptools"]["packages"]
    modules = {file for file in files_on_disk() if file.endswith(".py")}
    on_disk = {module.rpartition("/")[0].replace("/", ".") for module in modules}
    # A folder that holds only folders is still listed: the mapping of its children hangs on it.
    on_disk |= {f"pytest_sparsity.{name}" for name in LINKED}
    assert sorted(listed) == sorted(on_disk)


@pytest.mark.parametrize("name", LINKED)
def test_root_folder_is_a_link_target_and_no_package(name: str) -> None:
    link = ROOT / "pytest_sparsity" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert not (ROOT / name / "__init__.py").exists()
    assert configuration()["tool"]["setuptools"]["package-dir"][f"pytest_sparsity.{name}"] == name


def test_no_test_folder_is_a_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))
    assert not (ROOT / "tests" / "kernels").exists()


def test_transformers_is_not_misled_by_the_folder_kernels() -> None:
    """From the root, "kernels" is not ours (a bare folder is a namespace, which is harmless)."""
    code = (
        "import importlib.util\n"
        "spec = importlib.util.find_spec('kernels')\n"
        "assert spec is None or spec.origin is None or 'site-packages' in spec.origin, spec\n"
        "import transformers.integrations.hub_kernels\n"
        "import pytest_sparsity.kernels.torch.sparse_linear\n"
    )
    run(sys.executable, "-c", code, cwd=ROOT)


def test_constraints_pin_every_requirement() -> None:
    project = configuration()["project"]
    requirements = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    pinned = {
        line.partition("==")[0].lower().replace("_", "-")
        for line in (ROOT / "ci" / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    names = {requirement.partition(">=")[0] for requirement in requirements} - {"tomli"}
    assert names <= pinned


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the sdist that is built from a copy of the repository."""
    source = tmp_path_factory.mktemp("source") / "repository"
    unwanted = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist")
    shutil.copytree(ROOT, source, symlinks=True, ignore=unwanted)
    # No network: the build requirements are the ones installed here.
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", "dist", cwd=source)
    assert len(list((source / "dist").glob("*.tar.gz"))) == 1
    (path,) = (source / "dist").glob("*.whl")
    return path


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with the wheel in it, and this environment's packages behind it."""
    return environment_with(tmp_path_factory.mktemp("environment"), wheel)


@pytest.mark.slow
def test_wheel_holds_every_file_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        metadata = {Path(name).name for name in archive.namelist()} - {Path(n).name for n in names}
    assert sorted(names) == sorted(files_on_disk())
    assert {"METADATA", "LICENSE", "entry_points.txt"} <= metadata


TINY_TEST = """
    import importlib.metadata

    import pytest_sparsity
    from pytest_sparsity.kernels.torch.sparse_linear import sparsify_activations

    def test_plugin_is_loaded_through_its_entry_point(pytestconfig, sparsity_settings):
        assert pytestconfig.pluginmanager.has_plugin("sparsity")
        assert "site-packages" in pytest_sparsity.__file__
        assert pytest_sparsity.__version__ == importlib.metadata.version("pytest-sparsity")

    def test_subpackage_is_there():
        import torch
        assert sparsify_activations(torch.tensor([1.0, 3.0]), 2.0).tolist() == [0.0, 3.0]
"""


@pytest.mark.slow
def test_installed_plugin_documents_itself_outside_the_repository(
    installed: Path, tmp_path: Path
) -> None:
    output = run(installed, "-m", "pytest", "--help", cwd=tmp_path)
    assert "--sparsity-sweep" in output


@pytest.mark.slow
@pytest.mark.parametrize("options", [(), ("-p", "no:cacheprovider", "-W", "error")])
def test_installed_plugin_serves_tests_outside_the_repository(
    installed: Path, tmp_path: Path, options: tuple[str, ...]
) -> None:
    (tmp_path / "test_tiny.py").write_text(textwrap.dedent(TINY_TEST))
    output = run(installed, "-m", "pytest", *options, cwd=tmp_path)
    assert "2 passed" in output


@pytest.mark.slow
def test_installed_command_line_outside_the_repository(installed: Path, tmp_path: Path) -> None:
    script = installed.parent / "pytest-sparsity"
    assert "exit codes" in run(script, "--help", cwd=tmp_path)
    assert run(script, "list", "models", cwd=tmp_path) == run(
        installed, "-m", "pytest_sparsity", "list", "models", cwd=tmp_path
    )
    assert "sparse_linear/torch" in run(script, "list", "kernels", cwd=tmp_path)
    assert "NVIDIA H200" in run(script, "targets", "--target=h200", cwd=tmp_path)
