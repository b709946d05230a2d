"""How activations to skip are chosen: calibrate, plan, attach."""
