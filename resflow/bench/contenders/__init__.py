"""The contenders of the benchmarks, a process each: resflow itself, stock Keras, PyTorch, plain scripts."""
