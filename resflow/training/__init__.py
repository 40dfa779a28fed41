"""One trial to one record: plain Keras on TensorFlow, which knows nothing of Ray."""

from resflow.environment import settle

settle()
