"""The contract that conversion and training share: labels, splits, records, shards, manifests, storage.

It imports neither TensorFlow nor Beam, so that a conversion worker and a prediction service start light.
"""
