"""The fixtures in a test-suite of the user's own: one default cell, or the grid with --sweep."""

from __future__ import annotations

import pytest

ALL = """
    import pytest

    def test_everything(
        sparse_model, dense_model, sparsity_level, sparsity_method, spon_setting,
        calibration_corpus, evaluation_corpus, hardware_target, sparsity_settings, degradation,
    ):
        assert sparse_model.name == dense_model.name == "tiny-random"
        assert sparse_model.model is not dense_model.model
        assert (sparsity_method, sparsity_level, spon_setting) == ("teal", 0.5, "off")
        assert calibration_corpus.split == "calibration"
        assert evaluation_corpus.name == "austen"
        assert not {d.id for d in calibration_corpus.documents} & {
            d.id for d in evaluation_corpus.documents
        }
        assert hardware_target.name
        assert sparsity_settings.models == ("tiny-random",)
        assert degradation.configuration.id == "tiny-random-teal-0.50"
"""


def ids(result):
    return [line.partition("::")[2] for line in result.stdout.lines if "::" in line]


def test_without_sweep_once_at_the_default_cell(sweep):
    sweep.pytester.makepyfile(ALL)
    result = sweep.here("-v", "--strict-markers")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["*test_everything[[]*tiny-random-teal-0.50*[]] PASSED*"])
    assert "= sparsity =" not in result.stdout.str()


def test_default_level_is_the_first_where_half_is_not_asked_for(sweep):
    sweep.pytester.makepyfile("def test_x(sparsity_level):\n    assert sparsity_level == 0.25")
    sweep.here("--sparsity-levels=0.4,0.25").assert_outcomes(passed=1)


def test_with_sweep_over_the_grid(sweep):
    path = sweep.pytester.makepyfile("def test_x(sparse_model, sparsity_level):\n    pass")
    result = sweep.here("--sparsity-sweep", path.name, "--collect-only", "-q")
    assert ids(result) == [
        f"test_x[{name}]"
        for name in (
            "tiny-random-dense",
            "tiny-random-teal-0.50",
            "tiny-random-teal-0.50-mean_residual",
        )
    ]
    result = sweep.here(
        "--sparsity-sweep", path.name, "--collect-only", "-q", "--sparsity-spon=trained"
    )
    assert "test_x[tiny-random-teal-0.50-spon]" in ids(result)


def test_sparse_model_is_sparse_and_dense_is_not(sweep):
    path = sweep.pytester.makepyfile(
        """
        import torch

        def test_x(sparse_model, dense_model, sparsity_method):
            tokens = torch.arange(1, 40)[None]
            with torch.no_grad():
                sparse, dense = (m.model(tokens).logits for m in (sparse_model, dense_model))
            assert torch.equal(sparse, dense) == (sparsity_method == "dense")
        """
    )
    result = sweep.here("--sparsity-sweep", path.name)
    result.assert_outcomes(passed=3)


def test_dense_model_alone_runs_once_per_model(sweep):
    path = sweep.pytester.makepyfile("def test_x(dense_model):\n    pass")
    result = sweep.here("--sparsity-sweep", path.name, "--collect-only", "-q")
    assert ids(result) == ["test_x[tiny-random]"]


def test_evaluation_corpora(sweep):
    path = sweep.pytester.makepyfile("def test_x(evaluation_corpus):\n    pass")
    options = ("--collect-only", "-q", "--sparsity-corpora=austen,factbook")
    assert ids(sweep.here(path.name, *options)) == ["test_x[austen]"]
    assert ids(sweep.here("--sparsity-sweep", path.name, *options)) == [
        "test_x[austen]",
        "test_x[factbook]",
    ]


def test_other_tests_are_left_alone(sweep):
    path = sweep.pytester.makepyfile("def test_x():\n    pass")
    assert ids(sweep.here("--sparsity-sweep", path.name, "--collect-only", "-q")) == ["test_x"]


def test_cells_are_only_for_sweeps(sweep):
    sweep.pytester.makepyfile("def test_x(sparsity_cell):\n    pass")
    sweep.here().assert_outcomes(skipped=1)


@pytest.mark.parametrize(
    ("marker", "expected"),
    [
        ("levels=[0.25, 0.75], spon=['off']", ["dense", "teal-0.25", "teal-0.75"]),
        ("spon=['mean_residual']", ["dense", "teal-0.50-mean_residual"]),
        ("methods=['dense']", ["dense"]),
        ("target='cpu', spon=('off',)", ["dense", "teal-0.50"]),
        ("levels=[1/3], spon=['off']", ["dense", "teal-0.3333333333333333"]),
    ],
)
def test_marker(sweep, marker, expected):
    path = sweep.pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.sparsity({marker})
        def test_x(sparsity_level):
            pass
        """
    )
    options = ("--collect-only", "-q", "--strict-markers")
    result = sweep.here("--sparsity-sweep", path.name, *options)
    assert ids(result) == [f"test_x[tiny-random-{name}]" for name in expected]


@pytest.mark.parametrize(
    ("marker", "complaint"),
    [
        ("0.5", "takes levels, methods, spon, target, weights by name, not 0.5"),
        ("level=0.5", "takes levels, methods, spon, target, weights by name, not 'level'"),
        ("levels=0.5", "levels must be a list with at least one entry, not 0.5"),
        ("levels=[]", "levels must be a list with at least one entry, not []"),
        ("levels=[1.5]", "1.5: a level is a fraction from 0 to 1"),
        ("levels=['abc']", "levels cannot hold 'abc'"),
        ("methods='teal'", "methods must be a list with at least one entry, not 'teal'"),
        ("methods=[3]", "methods cannot hold 3"),
        ("spon=['nope']", "spon 'nope' is none of off, mean_residual, trained"),
        ("spon=[['off']]", "spon cannot hold ['off']"),
        ("target='nope'", "target 'nope' is none of auto, cpu, cuda"),
        ("target=3", "target 3 is none of auto, cpu, cuda"),
        ("weights=['int5']", "weights 'int5' are not known"),
    ],
)
def test_malformed_marker(sweep, marker, complaint):
    sweep.pytester.makepyfile(
        f"""
        import pytest

        @pytest.mark.sparsity({marker})
        def test_x(sparse_model):
            pass
        """
    )
    result = sweep.here()
    output = result.stdout.str() + result.stderr.str()
    assert result.ret not in (0, pytest.ExitCode.INTERNAL_ERROR)
    assert "Traceback" not in output
    assert "INTERNALERROR" not in output
    assert complaint in output
    assert "pytest.mark.sparsity" in output
    assert "test_x" in output


def test_marker_with_unknown_method(sweep):
    sweep.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.sparsity(methods=["nope"])
        def test_x(sparse_model):
            pass
        """
    )
    result = sweep.here()
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["SparsityError: method 'nope' is unknown; known are dense, teal, *"]
    )
    assert "Traceback" not in result.stdout.str()


def test_target_that_is_not_here_skips(sweep):
    sweep.pytester.makepyfile(
        """
        import pytest

        @pytest.mark.sparsity(target="cuda:99")
        def test_x():
            pass
        """
    )
    result = sweep.here("-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["SKIPPED*cuda:99*"])


def test_usable_with_hypothesis(sweep):
    sweep.pytester.makepyfile(
        """
        import torch
        from hypothesis import given, settings, strategies

        @settings(max_examples=5, deadline=None)
        @given(token=strategies.integers(0, 255))
        def test_x(sparse_model, sparsity_level, spon_setting, calibration_corpus, token):
            with torch.no_grad():
                logits = sparse_model.model(torch.tensor([[token]])).logits
            assert torch.isfinite(logits).all()
        """
    )
    sweep.here("-W", "error").assert_outcomes(passed=1)


def test_assert_within(finished):
    finished.pytester.makepyfile(
        """
        def test_pass(degradation):
            verdict = degradation.assert_within("perplexity:austen", 0.5)
            assert verdict.outcome.value == "pass"

        def test_fail(degradation):
            degradation.assert_within("kl:austen", 0.01)

        def test_skip(degradation):
            degradation.assert_within("perplexity:austen", -0.04)

        def test_path(degradation):
            degradation.assert_within("path:generation", 1.5)

        def test_unknown(degradation):
            degradation.assert_within("speed:austen", 0.1)

        def test_unknown_corpus(degradation):
            degradation.assert_within("perplexity:nope", 0.1)

        def test_measure(degradation):
            metrics = [c.metric for c in degradation.measure("task:sva")]
            assert metrics == ["accuracy:sva"]
            assert len(degradation.record("task:sva").units) >= 24
        """
    )
    result = finished.here("-rs")
    result.assert_outcomes(passed=3, failed=3, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*test_fail*",
            "tiny-random-teal-0.50: kl:austen +0.2* [[]+0.*, +0.*[]] (n = 12, *): fail, "
            "budget <= 0.0100 (this test)",
            "*test_unknown*",
            "SparsityError: *'speed:austen'*",
            "*test_unknown_corpus*",
            "SparsityError: *unknown corpus 'nope'*",
            "SKIPPED*inconclusive: tiny-random-teal-0.50: perplexity:austen*",
        ]
    )
    assert "Traceback" not in result.stdout.str()


def test_fixtures_are_documented(sweep):
    result = sweep.here("--fixtures")
    for name in ("sparse_model", "degradation", "evaluation_corpus", "hardware_target"):
        result.stdout.re_match_lines([rf"{name}\b.* -- .*fixtures.py:\d+", r"    [A-Z].+"])
