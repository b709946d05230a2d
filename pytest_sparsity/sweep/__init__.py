"""The grid: cells, their records, the store they live in, and the verdicts over them."""
