"""From trials by Ray Tune to records. With `tuning.oracle_searcher` this is the only part that imports Ray.

    execute         runs the trials of a plan that have no record yet
    queue           the order of trials: the one that a free process takes next
    gpu_sharing     how trials share a GPU: the share of the next one, and how many run at a time, by main memory too
    ray_session     Ray, on this machine or in a cluster
    local_ray       Ray on this machine, for nobody else to reach or to read
    janitor         a program beside the driver, which leaves none of Ray's processes and files behind
    tune_adapters   answers to Tune: the next trial, when to stop, what becomes of a worker that died or hangs
    tune_patches    what Tune does otherwise while a run lasts
    worker          one trial after the other, in a process of Ray
    record_writer   a process beside the driver, which writes the records that workers send
    file_transfer   images and weights, sent to machines that lack them
    watchdog        finds workers that hang
    stopping        ends a run before its last trial
    progress        the state of a run, for a screen

The state of a run is its records, and a checkpoint of each trial that runs: what has a record is never run again,
what was cut off goes on.
"""

from resflow.environment import prepare_ray

prepare_ray()
