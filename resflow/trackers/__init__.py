"""Trials in the trackers that people look at: TensorBoard, MLflow, Weights & Biases.

    tracker       what every tracker is asked for, and what it is told of trials and of their study
    known         the trackers by name, and whether they are installed
    describe      trials, records and runs in a tracker's words
    trial_log     writes each epoch and each end once, whether it happens now or lies on disk
    process       a tracker in a process of its own: it may fail or hang, and no trial waits for it
    tensorboard   event files
    mlflow        a run a trial, below one of its study
    wandb         a run a trial, in the group of its study

Records remain the state of a run. A tracker gets copies, and nothing is read back from it but what it has already.
"""
