"""Several trained models as one, with a run directory of its own: an ensemble, or a soup of their weights."""
