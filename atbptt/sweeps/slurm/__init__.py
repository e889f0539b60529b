"""Sweeps on a Slurm cluster: a job for each run, which goes back into the queue until its run is finished."""
