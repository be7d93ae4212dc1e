"""Training: the run directory, the loop and its callbacks."""
