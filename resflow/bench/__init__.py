"""Benchmarks of speed and reliability. A module answers one question, under the name of its `resflow bench` command:

    step            how fast is a training step, beside stock Keras, PyTorch and the machine's own limit?
    epoch           how fast are whole epochs, augmentation and evaluations included, beside PyTorch?
    input           how fast do augmented batches come, beside Keras' ImageDataGenerator?
    convolution     how is each kind of convolution computed fastest?
    worker          does the memory of a process grow that runs many trials?
    study           how long does a small study take, beside a plain loop over arms and seeds?
    packing         how many trials an hour are there by how many share a GPU, or the cores?
    repeat          is a record the same to the bit, run again and beside others?
    gpu             all that only a GPU can answer, in a few minutes
    frozen          how long does a study of heads on one frozen backbone take, beside a plain script?
    scale           how much time does the bookkeeping of thousands of trials take?
    chaos           what is lost where a run is disturbed? (disturbances.py)
    coverage        how often do intervals cover, and how often are tests wrong?

    contenders/     the programs that are measured, a process each
    contest         asks contenders in turn; process.py starts one and reads its line of JSON; clock.py times it
    stand_ins       records of trials that nobody trained, for scale and chaos
    device          what a contest asks of trials on a CPU or a GPU
    page, saving    results as tables and files (device_page.py)

Times are those of a CPU unless `--device gpu` says otherwise; no GPU was at hand yet. An opponent does the same work by
its library's own ordinary means, without weight decay, metrics or data loading that would cost it time and resflow
none.
"""
