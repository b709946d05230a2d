#!/usr/bin/env bash
# hypothesis: @seed(0) draws other examples once a module of one's own has been imported that is never used.
#
# Expected: with @seed(0), database=None and the same strategy, a test draws the same examples in every
# process; the documentation of @seed says that it starts the test from a fixed state.
# Seen: hypothesis collects the numbers and strings that stand in the source of every imported module
# outside of site-packages, and draws from them now and then.  So the import of a file with two numbers
# changes the examples of sampled_from(range(600)) as well, which no number in a file is meant for, while
# the import of an installed module changes nothing.
# Why it matters: a suite that says "seed 0 failed" is not told enough.  The same suite draws other shapes
# for one kernel when another file of the repository has been imported before, when a constant of it is
# edited, and when the suite is run from a wheel instead of a checkout; which of two builds finds a bug
# is then partly a matter of imports.  What a failure prints must be the case itself, never the seed.
#
# hypothesis 6.170.15, Python 3.11; 2026-11-30.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet hypothesis==6.170.15 tabulate==0.9.0
cd "$work"
echo 'NEVER_USED = (515, 516)' > sizes.py
cat > draws.py <<'PYTHON'
import importlib
import sys

for name in sys.argv[1:]:
    importlib.import_module(name)

from hypothesis import given, seed, settings
from hypothesis import strategies as st

seen = []


@seed(0)
@settings(max_examples=300, database=None)
@given(st.sampled_from(range(600)))
def draw(value):
    seen.append(value)


draw()
print(*seen)
PYTHON
"$work/venv/bin/python" draws.py > alone
"$work/venv/bin/python" draws.py > again
"$work/venv/bin/python" draws.py tabulate > installed
"$work/venv/bin/python" draws.py sizes > local
"$work/venv/bin/python" - <<'PYTHON'
drawn = {name: open(name).read().split() for name in ("alone", "again", "installed", "local")}
for name in ("again", "installed", "local"):
    pairs = zip(drawn["alone"], drawn[name], strict=False)
    first = next((place for place, (old, new) in enumerate(pairs) if old != new), None)
    told = "the same 300 examples" if first is None else f"another example from number {first + 1} on"
    print(f"{name}: {told}")
assert drawn["alone"] == drawn["again"] == drawn["installed"], "this has changed"
assert drawn["alone"] != drawn["local"], "this has changed"
PYTHON
