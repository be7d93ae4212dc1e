"""Judging a trained model on one split: predictions, exact numbers, and the files that hold them."""
