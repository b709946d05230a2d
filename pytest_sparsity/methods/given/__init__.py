"""What other projects made for a model, predictors or statistics or thresholds, in their files."""
