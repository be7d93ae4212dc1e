"""Judging a trained model: predictions, choices made on validation, exact numbers, and the files of them."""
