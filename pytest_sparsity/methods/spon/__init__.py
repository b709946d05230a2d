"""Spontaneous neurons (SPON, arXiv 2512.12744): constant vectors that make up for sparsity.

One vector a per site, independent of the input: y = W S(x) + W a.  W a is a constant, so
it folds into the layer's bias and costs no matrix product.
"""
