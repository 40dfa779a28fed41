"""Trials to Ray Tune to records: with `tuning.oracle_searcher` the only part that imports Ray.

    execute         runs the trials of a plan that have no record yet
    queue           which trial a process that is free takes next
    ray_session     Ray, on this machine or in a cluster
    tune_adapters   what Tune asks: which trial next, when to stop, what of a worker that died or hangs
    worker          what runs in a worker
    record_writer   the process beside the driver that writes what workers hand over
    file_transfer   images and weights for machines that lack them
    watchdog        which workers hang
    stopping        what ends a run before its last trial
    progress        what a screen shows

The state of a run is its records, and a checkpoint of each trial that runs: what has a record is never run again,
what was cut off goes on.
"""

from resflow.environment import prepare_ray

prepare_ray()
