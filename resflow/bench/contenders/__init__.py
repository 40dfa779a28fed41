"""The programs that benchmarks measure, a process each: `python -m resflow.bench.contenders.NAME JSON`.

resflow_jobs, resflow_bookkeeping   resflow itself
keras_step, keras_input             stock Keras
torch_step                          PyTorch, in any Python that has it
gemm                                a large matrix product: the machine's own limit
study_script, frozen_script         the scripts that one would write in place of `resflow study`
step_losses                         a check that study_script trains what resflow trains
lowerings                           both ways of computing a convolution
"""
