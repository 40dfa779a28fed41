"""`resflow bench`: how fast resflow is on this machine, beside stock Keras, PyTorch and the machine's own limit.

    contest.py      the contests step and input: every contender in a process of its own, in turn, several rounds
    study_contest.py  a small study by resflow and by script.py, a plain loop over arms and seeds
    frozen_contest.py  the head study on a frozen backbone by resflow and by frozen_script.py
    process.py      starts a contender and reads its one line of JSON; clock.py times it
    resflow_jobs.py, keras_step.py, keras_input.py, torch_step.py, gemm.py, script.py,
    frozen_script.py   the contenders
    page.py, saving.py   results as tables and files

All of it measures the CPU. An opponent does the same work by its library's own ordinary means, without weight
decay, metrics or data loading that would cost it time and resflow none.
"""
