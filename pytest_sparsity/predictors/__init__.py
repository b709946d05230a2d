"""Trains predictors of neurons and writes them as PowerInfer reads them."""
