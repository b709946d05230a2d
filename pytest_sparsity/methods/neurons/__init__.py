"""Hot and cold neurons of feed-forward blocks (PowerInfer, arXiv 2312.12456)."""
