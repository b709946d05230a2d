"""The speed gate: timing that a noisy machine does not deceive, and what its times say."""
