"""All that needs TensorFlow and Keras: reading shards, training, evaluating, reporting and serving.

Importing this package imports nothing else, so that a command can show its help without TensorFlow.
"""
