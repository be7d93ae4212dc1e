"""Losses compared on one small model: same weights to begin with, same records, same steps, several seeds."""
