"""Sweeps on a Slurm cluster: a job for each run, which is requeued until its run is finished."""
