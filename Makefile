# make sweep   measure the default model and print the table
# make test    run the tests
# Both set up what they need first.  ARGS goes to pytest: make test ARGS="-k stats -n 0"

VENV ?= .venv
PYTHON ?= python3
bin := $(VENV)/bin

.PHONY: venv sweep smoke test test-cuda test-lowest test-lm-eval mutants check clean

sweep: venv
	$(bin)/pytest --sparsity-sweep $(ARGS)

smoke: venv
	$(bin)/pytest --sparsity-sweep --sparsity-profile smoke $(ARGS)

# One thread per worker: torch would otherwise start one per core in each of the two.
test: export OMP_NUM_THREADS = 1
test: venv
	$(bin)/pytest -n 2 --dist loadfile $(ARGS)

# With the extra lm-eval (300 MB more), without which these tests are skipped.
test-lm-eval: venv
	$(bin)/pip install --quiet -c ci/constraints.txt -e '.[dev,lm-eval]'
	$(bin)/pytest tests/evaluation/test_harness.py tests/cli/test_compare_samples.py

# With the extra cuda (129 MB more): what nvcc of the package index makes of CUDA kernels.
test-cuda: venv
	$(bin)/pip install --quiet -c ci/constraints.txt -e '.[dev,cuda]'
	$(bin)/pytest tests/kernels_cuda/test_compiler.py

# With the lowest versions that pyproject.toml allows, on Python 3.11: kernels, models, and all
# families of transformers.
LOWEST ?= .venv-lowest
test-lowest: export OMP_NUM_THREADS = 1
test-lowest: $(LOWEST)/.stamp
	$(LOWEST)/bin/pytest -n 2 --dist loadfile tests/reference tests/kernels_cpu \
	  tests/kernels_native tests/kernels_torch tests/kernels_triton tests/checking \
	  tests/methods tests/models tests/sites tests/families -m 'not slow or lowest' $(ARGS)

$(LOWEST)/.stamp: pyproject.toml ci/constraints-lowest.txt
	$(PYTHON) -m venv $(LOWEST)
	$(LOWEST)/bin/pip install --quiet -c ci/constraints-lowest.txt -e . pytest-xdist
	touch $@

# What is not known yet of wrong kernels: a check that kills each.  Writes docs/mutants.md; every check
# against every one takes hours: ARGS="--matrix --decisive --processes 2".
mutants: export OMP_NUM_THREADS = 1
mutants: venv
	$(bin)/python tests/mutants/table.py --killers $(ARGS)

check: venv
	$(bin)/ruff format --check
	$(bin)/ruff check
	$(bin)/mypy
	$(bin)/mypy ci/prove_gate/*.py
	MYPYPATH=ci/prove_gate $(bin)/mypy ci/prove_verdicts/*.py
	$(bin)/mypy ci/*.py

venv: $(VENV)/.stamp

$(VENV)/.stamp: pyproject.toml ci/constraints.txt
	@echo 'Setting up $(VENV): about 700 MB to download, some minutes, once.'
	$(PYTHON) -m venv $(VENV)
	$(bin)/pip install --quiet -c ci/constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +
