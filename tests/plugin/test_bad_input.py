"""A user's mistake is one sentence that names the option, the value and the fix."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from pathlib import Path

import pytest

SWEEP = "--sparsity-sweep"


@pytest.mark.parametrize(
    ("option", "value", "fix"),
    [
        ("model", "nope", "known are smollm2-135m"),
        ("model", "smolm2-135m", "did you mean smollm2-135m?"),
        ("model", "", "name a model, a folder"),
        ("model", "/no/such/folder", "does not exist"),
        ("methods", "nope", "known are dense, teal"),
        ("methods", "powerinfer:x", "give a number, or natural"),
        ("methods", "hot_only:x", "model, capacity or natural"),
        ("methods", "hot_only:natural", "name one with --sparsity-predictors"),
        ("levels", "natural", "choose METHOD:natural"),
        ("methods", "cats:0.5", "what stands behind the colon is natural"),
        ("predictors", "nope", "does not exist"),
        ("methods", "teal,,teal", "comma-separated list without empty entries"),
        ("tasks", "nope", "known are basic_logical_reasoning"),
        ("tasks", "nope.jsonl", "does not exist"),
        ("corpora", "nope", "known are austen"),
        ("corpora", "nope.txt", "does not exist"),
        ("calibration", "nope", "known are austen"),
        ("calibration", "factbook", "choose another"),
        ("suite", "nope", "use one of kernels"),
        ("profile", "nope", "use one of smoke, quick, full"),
        ("spon", "nope", "use one of off, mean_residual, trained"),
        ("prefill", "nope", "first:1"),
        ("prefill", "first:-1", "first:1"),
        ("dtype", "int3", "use one of auto, bfloat16"),
        ("target", "tpu", "use auto, cpu, cuda"),
        ("target", "cuda:99", "use cpu or auto"),
        ("data", "nope", "use one of vendored, full"),
        ("train", "nope", "use one of never, missing, all"),
        ("spon-sites", "q,nope", "use one of q, k, v, o, gate, up, down"),
        ("spon-layers", "5-2", "a range (0-14)"),
        ("spon-layers", "x", "a range (0-14)"),
        ("levels", "1.2", "from 0 to 1"),
        ("levels", "-0.1", "from 0 to 1"),
        ("levels", "abc", "from 0 to 1"),
        ("levels", "nan", "from 0 to 1"),
        ("levels", "0.5,,0.6", "without empty entries"),
        ("levels", "", "without empty entries"),
        ("seed", "-1", "a whole number from 0"),
        ("seed", "x", "a whole number from 0"),
        ("report", "", "name a folder"),
    ],
)
def test_unknown_value(sweep, assert_refused, option, value, fix):
    sentence = assert_refused(sweep.here(SWEEP, f"--sparsity-{option}={value}"), fix)
    assert f"--sparsity-{option}" in sentence
    wrong = {"teal,,teal": "teal,,teal", "q,nope": "nope"}.get(value, value)
    assert wrong in sentence
    assert not (sweep.report / "records.jsonl").exists()


def test_unknown_value_with_xdist(sweep, assert_refused):
    assert_refused(sweep.here(SWEEP, "-n2", "--sparsity-tasks=nope"), "--sparsity-tasks", "nope")


@pytest.mark.slow  # builds a model each, in a process that has torch already
@pytest.mark.parametrize(
    ("model", "options", "words"),
    [
        (
            "qwen3_next",
            ("--sparsity-methods=teal,cats",),
            ("--sparsity-methods cats", "leave cats"),
        ),
        ("mixtral", ("--sparsity-methods=hot_only", "-n2"), ("--sparsity-methods hot_only",)),
        ("hrm_text", (), ("--sparsity-spon mean_residual", "use --sparsity-spon=off")),
    ],
)
def test_what_has_no_meaning_for_a_model_is_told_once(sweep, assert_refused, model, options, words):
    """Before calibration, and not by every cell."""
    result = sweep.here(SWEEP, f"--sparsity-model=tiny:{model}", *options)
    assert_refused(result, f"tiny-{model}", *words)
    assert not (sweep.report / "records.jsonl").exists()


def test_bad_value_in_ini_file(sweep, assert_refused):
    sweep.pytester.makeini("[pytest]\nsparsity_levels = 1.2")
    assert_refused(sweep.here(SWEEP), "--sparsity-levels", "1.2")


def test_same_level_twice_runs_once(sweep):
    result = sweep.here(SWEEP, "--sparsity-levels=0.5,0.50", "--collect-only", "-q")
    assert result.stdout.str().count("tiny-random-teal-0.50-perplexity:austen") == 1


def test_models_of_one_name(sweep, assert_refused, model_folder, tmp_path):
    other = tmp_path / "other" / model_folder.name
    other.parent.mkdir()
    other.symlink_to(model_folder)
    copied = tmp_path / "copied" / model_folder.name
    copied.parent.mkdir()
    subprocess.run(["cp", "-r", model_folder, copied], check=True)
    result = sweep.here(SWEEP, f"--sparsity-model={model_folder}", f"--sparsity-model={copied}")
    assert_refused(result, "--sparsity-model", str(copied), "rename one folder")


# -- models ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost", "complaint"),
    [
        ("config.json", "no config.json"),
        ("model.safetensors", "no weights"),
        ("tokenizer.json", "no tokenizer"),
    ],
)
def test_incomplete_model_folder(sweep, assert_refused, model_folder, lost, complaint):
    (model_folder / lost).unlink()
    result = sweep.here(SWEEP, f"--sparsity-model={model_folder}")
    assert_refused(result, "--sparsity-model", str(model_folder), complaint, "save_pretrained")


def test_truncated_weights(sweep, assert_refused, model_folder):
    weights = model_folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    result = sweep.here(SWEEP, f"--sparsity-model={model_folder}")
    assert_refused(result, str(model_folder))


def test_model_that_sees_what_follows(sweep, assert_refused, tmp_path):
    from transformers import BertConfig, BertLMHeadModel

    from pytest_sparsity.models.tiny import tiny_tokenizer

    folder = tmp_path / "encoder"
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=257, hidden_size=16, intermediate_size=32, **layers)
    BertLMHeadModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    result = sweep.here(SWEEP, f"--sparsity-model={folder}")
    assert_refused(result, "--sparsity-model", "BertLMHeadModel change", "decoder-only")


def test_model_with_a_vocabulary_that_no_text_is_in(sweep, assert_refused, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path / "digits"
    sizes = {"vocab_size": 8, "hidden_size": 16, "intermediate_size": 32}
    layers = {"num_hidden_layers": 2, "num_attention_heads": 2}
    ends = dict.fromkeys(("bos_token_id", "eos_token_id", "pad_token_id"), 0)
    LlamaForCausalLM(LlamaConfig(**sizes, **layers, **ends)).save_pretrained(folder)
    cutter = Tokenizer(models.WordLevel({str(n): n for n in range(8)}, unk_token="none"))
    cutter.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=cutter, eos_token="0").save_pretrained(folder)
    result = sweep.here(SWEEP, f"--sparsity-model={folder}")
    assert_refused(result, "its tokenizer cannot write the text", "--sparsity-corpora")


def test_code_that_is_not_trusted(sweep, assert_refused, model_folder):
    said = json.loads((model_folder / "config.json").read_text())
    said |= {"model_type": "mine", "auto_map": {"AutoConfig": "configuration_mine.MineConfig"}}
    (model_folder / "config.json").write_text(json.dumps(said))
    (model_folder / "configuration_mine.py").write_text("raise AssertionError('it was run')")
    result = sweep.here(SWEEP, f"--sparsity-model={model_folder}")
    assert_refused(result, "configuration_mine.py (MineConfig)", "--sparsity-trust-remote-code")


def test_weights_with_nan(sweep, assert_refused, model_folder):
    from safetensors.torch import load_file, save_file

    weights = load_file(model_folder / "model.safetensors")
    weights["model.layers.1.mlp.up_proj.weight"][3, 4] = float("nan")
    save_file(weights, model_folder / "model.safetensors", metadata={"format": "pt"})
    result = sweep.here(SWEEP, f"--sparsity-model={model_folder}")
    assert_refused(result, "saved", "NaN", "--sparsity-model")


@pytest.mark.parametrize("name", ["smollm2-135m", "some-org/some-model"])
def test_no_network(sweep, assert_refused, monkeypatch, tmp_path, name):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    # The hub's client reads its variable when it is imported.
    run = sweep.apart if "/" in name else sweep.here
    result = run(SWEEP, f"--sparsity-model={name}", f"--sparsity-cache={tmp_path / 'new'}")
    assert_refused(result, name, "connect to the network once", "--sparsity-model")


# -- folders and records -----------------------------------------------------------------


@pytest.mark.parametrize("option", ["report", "cache"])
@pytest.mark.parametrize("place", ["file/below", "/proc/nowhere"])
def test_folder_that_cannot_be_written(sweep, assert_refused, option, place):
    (sweep.pytester.path / "file").touch()
    folder = sweep.pytester.path / place
    result = sweep.here(SWEEP, f"--sparsity-{option}={folder}")
    assert_refused(result, f"cannot write {folder}", f"--sparsity-{option}")


def test_records_of_another_version(finished, assert_refused):
    path = finished.report / "records.jsonl"
    lines = path.read_text().splitlines()
    foreign = json.dumps({**json.loads(lines[1]), "schema": 99})
    path.write_text("\n".join([lines[0], foreign, *lines[2:]]) + "\n")
    before = path.read_bytes()
    result = finished.here(SWEEP)
    assert_refused(result, f"{path} line 2", "schema 99", "--sparsity-report")
    assert path.read_bytes() == before


def test_damaged_record_is_measured_again(finished):
    path = finished.report / "records.jsonl"
    undisturbed = finished.records()
    lines = path.read_text().splitlines()
    lines[1] = lines[1][: len(lines[1]) // 2]
    lines[2] = '{"schema": 1, "cell": 3}'
    path.write_text("\n".join(lines) + "\n")
    result = finished.here(SWEEP, "-k", "within_budget")
    assert result.ret == 0
    assert result.stdout.str().count("WARNING: ") == 1
    result.stdout.fnmatch_lines([f"WARNING: {path} is damaged in line 2, 3: *measured again"])
    measured_again = {
        json.loads(line)["id"] for line in path.read_text().splitlines()[len(lines) :]
    }
    assert measured_again
    assert finished.reused(result) == 9 - len(measured_again)
    after = path.read_text().splitlines()
    path.write_text("\n".join(line for line in after if line not in lines[1:3]) + "\n")
    assert {i: r["measured"] for i, r in finished.records().items()} == {
        i: r["measured"] for i, r in undisturbed.items()
    }


def test_full_disk_keeps_the_records(finished):
    """Once a file may not grow, nothing is lost and the sentence names the file."""
    path = finished.report / "records.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines[:5]))
    limit, hard = path.stat().st_size + 100, resource.getrlimit(resource.RLIMIT_FSIZE)[1]
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        result = finished.here(SWEEP, "-k", "within_budget", "-p", "no:cacheprovider")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    output = result.stdout.str() + result.stderr.str()
    assert result.ret == 1
    assert f"NotWritten: cannot write {path}: File too large" in output
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    assert path.read_bytes() == b"".join(lines[:5])


# -- thresholds --------------------------------------------------------------------------

GOOD = """schema = 1
[[budget]]
model = "tiny-random"
method = "teal"
level = 0.5
spon = "off"
metric = "perplexity:austen"
max = 0.1
"""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("max = 0.1", "max = 0.1\ncolour = 1", "budget 1: unknown key 'colour'; known are"),
        ("schema = 1", "schema = 1\ncolour = 1", "unknown key 'colour'; known are schema"),
        ("schema = 1", "", "schema is None"),
        ("schema = 1", "schema = 2", "schema is 2"),
        ("max = 0.1", 'max = "much"', "budget 1: max must be a number, not 'much'"),
        ("max = 0.1", "max = true", "budget 1: max must be a number, not True"),
        ("max = 0.1", "max = nan", "budget 1: max must be finite"),
        ("max = 0.1", "", "budget 1: 'max' is missing"),
        ("max = 0.1", "min = 0.1", "budget 1: perplexity is limited by 'max', not 'min'"),
        ("level = 0.5", 'level = "0.5"', "budget 1: level must be a number, not '0.5'"),
        ("level = 0.5", "level = 1.5", "budget 1: level must be between 0 and 1, not 1.5"),
        ("level = 0.5", "", "budget 1: 'level' is missing"),
        ('"off"', '"on"', "budget 1: spon must be one of off, mean_residual, trained, not 'on'"),
        ('"tiny-random"', "3", "budget 1: model must be text, not 3"),
        ('"perplexity:austen"', '"speed"', "budget 1: metric 'speed' is unknown"),
        ("[[budget]]", "[budget]", "budgets are written as [[budget]]"),
        ("level = 0.5", "level = 0.75", "tiny-random-teal-0.75 is not swept"),
        ("[[budget]]", "[[budget", "not a TOML file"),
    ],
)
def test_thresholds(sweep, assert_refused, old, new, complaint):
    assert old in GOOD
    path = sweep.pytester.path / "budgets.toml"
    path.write_text(GOOD.replace(old, new))
    result = sweep.here(SWEEP, "--sparsity-budgets=budgets.toml")
    assert_refused(result, f"--sparsity-budgets {path}: {complaint}")


@pytest.mark.parametrize("metric", ["perplexity:nope", "accuracy:arc_easy", "perplexity", "path:x"])
def test_thresholds_for_what_is_not_measured(sweep, assert_refused, metric):
    path = sweep.pytester.path / "budgets.toml"
    path.write_text(GOOD.replace("perplexity:austen", metric))
    result = sweep.here(SWEEP, "--sparsity-budgets=budgets.toml")
    assert_refused(result, f"--sparsity-budgets {path}", repr(metric), "never be checked")


def test_thresholds_file_is_missing(sweep, assert_refused):
    result = sweep.here(SWEEP, "--sparsity-budgets=nope.toml")
    assert_refused(result, "--sparsity-budgets", "nope.toml", "No such file", "give a TOML file")


def test_thresholds_for_another_model_may_share_the_file(sweep):
    path = sweep.pytester.path / "budgets.toml"
    path.write_text(GOOD.replace("tiny-random", "another"))
    result = sweep.here(SWEEP, "--sparsity-budgets=budgets.toml", "-k", "level_zero")
    result.assert_outcomes(passed=1, deselected=12)


# -- several processes -------------------------------------------------------------------


def test_two_processes_with_an_empty_cache(sweep, tmp_path):
    options = (SWEEP, "-k", "within_budget", f"--sparsity-cache={tmp_path / 'cache'}")
    both = [sweep.start(*options) for _ in range(2)]
    outputs = [process.communicate(timeout=240)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    lines = (sweep.report / "records.jsonl").read_text().splitlines()
    assert len(sweep.records()) == 9
    assert len(set(map(_content, lines))) == len(lines)  # nothing was measured twice


def _content(line: str) -> str:
    record = json.loads(line)
    return json.dumps([record["id"], record["measured"]])


def test_mistakes_of_a_test_are_failures_without_traceback(sweep):
    sweep.pytester.makepyfile(
        """
        def test_metric(degradation):
            degradation.assert_within("speed:austen", 0.1)
        """
    )
    result = sweep.here()
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["SparsityError: metric 'speed:austen' is not measured*"])
    assert "Traceback" not in result.stdout.str()
    assert Path(os.getcwd()) == sweep.pytester.path
