"""Options: documented in one group, readable as ini keys, the command line wins."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from pytest_sparsity.core.errors import SparsityWarning
from pytest_sparsity.plugin.options import read_settings
from pytest_sparsity.settings import options as option_table
from pytest_sparsity.settings import saved
from pytest_sparsity.settings.settings import PROFILES, Settings, default_settings


def test_help_has_every_option_in_one_group(pytester):
    result = pytester.runpytest_inprocess("--help")
    text = result.stdout.str()
    start = text.index("sparse language models and kernels (pytest-sparsity):")
    body = text[start:].split("\n\n")[0]
    names = re.findall(r"^  --sparsity-([a-z-]+)", body, flags=re.MULTILINE)
    own = [(option.name, option.formerly) for option in option_table.OPTIONS]
    assert names == [name for pair in own for name in pair if name]
    assert len(re.findall(r"^  --sparsity-", text, flags=re.MULTILINE)) == len(names)
    for option in option_table.OPTIONS:
        described = re.sub(r"\s+", " ", body.partition(f"--sparsity-{option.name}")[2])
        assert option.help.split(";")[0][:40] in described
        if option.ini:
            assert f"  {option.dest} (" in text


def test_a_row_is_a_field_of_the_settings():
    fields = [option.field for option in option_table.OPTIONS]
    assert fields == list(Settings.__dataclass_fields__)
    assert tuple(PROFILES) == option_table.PROFILES
    assert all(option.flag or option.default or option.of_profile or
               getattr(default_settings(), option.field) is None
               for option in option_table.OPTIONS)  # fmt: skip


@pytest.fixture
def shown(pytester):
    """The settings that a session ends up with."""
    pytester.makepyfile(
        """
        def test_show(sparsity_settings):
            print("models", sparsity_settings.models)
            print("levels", sparsity_settings.levels)
            print("strict", sparsity_settings.strict)
            print("tasks", sparsity_settings.tasks)
            print("report", sparsity_settings.report.name)
        """
    )
    return lambda *args: pytester.runpytest_inprocess("-s", *args).stdout


def test_defaults(shown):
    shown().fnmatch_lines(
        ["*models ('smollm2-135m',)", "levels (0.25, 0.4, 0.5)", "strict False", "tasks (*'sva')"]
    )


def test_ini_keys_and_the_command_line_over_them(pytester, shown):
    pytester.makeini(
        """
        [pytest]
        sparsity_model =
            tiny-random
            gemma3-270m
        sparsity_levels = 0.3,0.1
        sparsity_strict = true
        sparsity_tasks = none
        sparsity_report = elsewhere
        """
    )
    expected = [
        "*models ('tiny-random', 'gemma3-270m')",
        "levels (0.1, 0.3)",
        "strict True",
        "tasks ()",
        "report elsewhere",
    ]
    shown("--strict-config").fnmatch_lines(expected)
    given = ("--sparsity-model=one", "--sparsity-levels=0.9", "--sparsity-tasks=sva")
    shown(*given).fnmatch_lines(
        ["*models ('one',)", "levels (0.9,)", "strict True", "tasks ('sva',)"]
    )


def test_profile_gives_levels_and_tasks(shown):
    shown("--sparsity-profile=smoke").fnmatch_lines(
        ["levels (0.5,)", "tasks ('basic_common_knowledge', 'sva')"]
    )


def test_model_is_repeatable(shown):
    shown("--sparsity-model=b", "--sparsity-model=a", "--sparsity-model=b").fnmatch_lines(
        ["*models ('b', 'a')"]
    )


def test_settings_survive_json(pytester):
    config = pytester.parseconfig("--sparsity-spon-layers=2-5", "--sparsity-levels=0.1,0.9")
    settings = read_settings(config)
    other = read_settings(pytester.parseconfig("--sparsity-model=x"))
    import json

    restored = saved.resumed(other, json.loads(json.dumps(saved.to_json(settings))))
    assert restored.sweep
    assert saved.to_json(restored) == saved.to_json(settings)
    assert restored.spon_layers == (2, 5)
    assert restored.report == other.report


def test_claims_alone_are_judged_on_fewer_documents_in_quick() -> None:
    usual = default_settings()
    alone = replace(usual, suites=("claims",))
    assert (usual.sizes.documents, alone.sizes.documents) == (32, 24)
    assert replace(alone, suites=("accuracy", "claims")).sizes == usual.sizes
    assert replace(alone, profile="full").sizes == replace(usual, profile="full").sizes


@pytest.mark.parametrize("where", ["command line", "ini"])
def test_a_former_name_works_and_warns(pytester, where):
    arguments = []
    if where == "ini":
        pytester.makeini("[pytest]\nsparsity_thresholds = own.toml\n")
    else:
        arguments = ["--sparsity-thresholds=own.toml"]
    config = pytester.parseconfig(*arguments)
    with pytest.warns(SparsityWarning, match="--sparsity-thresholds is --sparsity-budgets now"):
        settings = read_settings(config)
    assert settings.budgets == pytester.path / "own.toml"


def test_the_present_name_goes_before_the_former(pytester):
    config = pytester.parseconfig("--sparsity-thresholds=old.toml", "--sparsity-budgets=new.toml")
    with pytest.warns(SparsityWarning):
        assert read_settings(config).budgets == pytester.path / "new.toml"
