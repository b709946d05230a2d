"""What runs measured, one line each, and at which of them something changed.

On the command line: ``pytest-sparsity history FILE [--png OUT]``.
"""

#: A change is reported below this p-value.  Of a hundred series of a hundred nights that do not
#: change, none is reported at 1 % of noise from night to night, one at 3 % and three at 5 %.
SIGNIFICANCE = 0.001
#: ... and if it is at least this large, relative to the level before.
MAGNITUDE = 0.05
#: Runs that are looked at together: a month of nights.  In a longer window later changes hide
#: earlier ones.
WINDOW = 30
