"""`engine predict`: what a trained model finds on image files."""
