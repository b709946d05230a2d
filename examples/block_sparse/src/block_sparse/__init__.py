"""A linear layer whose weight is block-sparse, in the layout of torch's BSR tensors."""
