"""From a manifest to batches: the order of an epoch, local copies of shards, random access, tf.data."""
