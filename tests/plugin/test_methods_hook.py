"""A method from a conftest file is usable by its name."""

from __future__ import annotations

CONFTEST = """
    import torch
    from pytest_sparsity import Plan

    class Last:
        name = "{name}"
        parameters = {{"which": "last"}}

        def plan(self, calibrator, level):
            def selector(x):
                kept = torch.zeros(x.shape, dtype=torch.bool)
                kept[..., : round(x.shape[-1] * (1 - level))] = True
                return x * kept
            sites = (site.name for site in calibrator.model.sites)
            return Plan(self.name, level, {{site: selector for site in sites}}, calibrator.prefill)

    def pytest_sparsity_methods(config):
        return [Last()]
"""


def test_method_of_a_conftest_file(sweep):
    sweep.pytester.makeconftest(CONFTEST.format(name="last"))
    path = sweep.pytester.makepyfile(
        """
        def test_x(degradation, sparsity_method, sparsity_level):
            degradation.measure("perplexity:austen")
            if sparsity_method == "last":
                achieved = degradation.record("perplexity:austen").measured["achieved"]
                assert abs(achieved["weighted"] - sparsity_level) < 0.01
        """
    )
    options = ("--sparsity-methods=last", "--sparsity-spon=off", "-v")
    for _ in range(2):  # a method is known to its session only: no name is taken for good
        result = sweep.here("--sparsity-sweep", path.name, *options)
        assert result.parseoutcomes()["passed"] == 2
    result.stdout.fnmatch_lines(["*test_x[[]tiny-random-last-0.50[]]*"])
    methods = {record["cell"]["method"] for record in sweep.records().values()}
    assert methods == {"dense", "last"}
    assert all(
        record["key"].get("method") == {"which": "last"}
        for record in sweep.records().values()
        if record["cell"]["method"] == "last"
    )


def test_a_changed_method_is_measured_anew(sweep):
    options = ("--sparsity-methods=last", "--sparsity-spon=off", "--sparsity-tasks=none")
    reused = []
    for share in ("1", "1", "1.5"):
        text = CONFTEST.format(name="last").replace("(1 - level)", f"(1 - {share} * level)")
        sweep.pytester.makeconftest(text)
        sweep.apart("--sparsity-sweep", "-k", "within_budget", *options)
        result = sweep.apart("--sparsity-sweep", "-k", "within_budget", *options)
        reused.append(len(sweep.records()))
        assert sweep.reused(result) == 4
    assert reused == [4, 4, 6]


def test_name_that_is_taken(sweep, assert_refused):
    sweep.pytester.makeconftest(CONFTEST.format(name="teal"))
    result = sweep.here("--sparsity-sweep", ".")
    assert_refused(result, "pytest_sparsity_methods", "'teal' is there already", "another name")
