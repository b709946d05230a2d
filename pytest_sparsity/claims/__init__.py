"""The claims of the literature on activation sparsity, each judged on the user's own model."""
