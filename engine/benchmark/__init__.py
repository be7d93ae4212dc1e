"""Measurements that users repeat on their own machine, each against the usual way in the same run."""
