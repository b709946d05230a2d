"""What is measured: corpora, tasks, and how a model is scored on them."""
