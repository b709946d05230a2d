"""The records of our ops: one file per op holds all that is known of it beside its definition."""
