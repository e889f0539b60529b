"""What a run directory holds: file names, Arrow schemas, metric names.

A run directory is `outputs/<experiment>/<experiment_id>/`; see docs/runs.md for each file and metric.
"""

import pyarrow as pa

ID = "experiment_id"  # the column that joins all tables
OPTIONS = "options.parquet"  # one row: every option, flattened with dots
METRICS = "metrics.parquet"  # long: a row per evaluation and metric
GRADIENTS = "gradients.parquet"  # long: a row per evaluation, component and lag
POSITIONS = "positions.parquet"  # long: a row per evaluation, loss position and lag
PREDICTIONS = "predictions.parquet"  # long: a row per step and stream, of the best evaluation only
STATUS = "status.json"
CONFIG = "config.yaml"
ENVIRONMENT = "environment.json"  # code, packages, machine: an entry per attempt
SOURCE = "source"  # folder: the user's modules that the config's classes need
CHECKPOINT = "checkpoint.pt"
PREVIOUS_CHECKPOINT = "checkpoint.previous.pt"
BEST = "best.pt"  # the model at its best evaluation
PREVIOUS_BEST = "best.previous.pt"  # until a checkpoint has been stored since the best evaluation
LOG = "log.txt"
OUTPUT = "output.txt"  # what the run's process printed
TRACEBACK = "traceback.txt"
LOCK = "lock"  # held by the process that trains the run; in a sweep's folder, by the process that launched it
# Key in the metadata of options.parquet, of its row as JSON: read in a fraction of the time that 50 columns take, which
# matters for 10,000 runs.
OPTIONS_JSON = b"options"

# In the output folder: one folder per sweep, with its plan and the composed config.
SWEEPS = ".sweeps"
OLD = ".old"  # beside the runs: those that rerun=true has set aside
PLAN = "plan.json"
TRIALS = "trials.json"  # in the folder of a search

# The first columns of every table: the run, and when it was evaluated.
_EVALUATION = [
    (ID, pa.string()),
    ("step", pa.int64()),  # training steps of the stream, from the start of the run
    ("epoch", pa.float64()),  # step over the stream's length
]
# Of truncation at K = lag: the bound on the relative bias of K steps; the scheme's bias as measured and the cosine of
# the angle to the whole window's gradient, and both with every loss backpropagated through exactly K steps; the mean
# square of one loss's gradient, its standard deviation over streams, the square of the mean gradient, and that over the
# variance of an update; the share of losses whose sequence reaches back to the lag.
READINGS = (
    *("relative_bias", "measured_bias", "cosine", "measured_bias_of_steps", "cosine_of_steps"),
    *("square", "spread", "signal", "signal_to_noise", "reach"),
)
METRICS_SCHEMA = pa.schema(
    [
        *_EVALUATION,
        ("adaptive_epoch", pa.float64()),  # epoch, with the steps that the policy's probes consumed
        ("updates", pa.int64()),  # optimizer steps
        ("train_seconds", pa.float64()),  # spent in training and the policy's probes, not in evaluation
        # The same as the processor time of all threads, or on a GPU as its own; NaN after a checkpoint without it.
        ("compute_seconds", pa.float64()),
        ("metric", pa.string()),
        ("replicate", pa.int32()),  # number of the probe, for metrics that a probe measures; else 0
        ("value", pa.float64()),
    ]
)
GRADIENTS_SCHEMA = pa.schema(
    [
        *_EVALUATION,
        ("replicate", pa.int32()),
        ("component", pa.string()),  # `all`, or one state tensor of one layer: hidden0, cell0, ...
        ("lag", pa.int32()),  # 1..W
        ("phi", pa.float64()),  # averaged over streams and loss positions
        ("kept_of_mean", pa.float64()),  # norm of the mean gradient summed over lags 1..lag
        *((name, pa.float64()) for name in READINGS),  # of component `all`, else null
    ]
)
# phi before it is averaged over loss positions: component `all` of gradients.parquet, position by position.
POSITIONS_SCHEMA = pa.schema(
    [
        *_EVALUATION,
        ("replicate", pa.int32()),
        ("position", pa.int32()),  # the loss's row in the probe window, from 0
        ("lag", pa.int32()),  # 1..W, as far as the window reaches back from the position
        ("phi", pa.float64()),  # averaged over streams
    ]
)
# The model's predictions at the beginning of some streams of the test split, at the best validation so far.
PREDICTIONS_SCHEMA = pa.schema(
    [
        *_EVALUATION,
        ("stream", pa.int32()),
        ("position", pa.int64()),  # step of the test stream, from 0
        ("quantity", pa.string()),  # symbol, event, interval, value: see `Predicting.predictions`
        ("target", pa.float64()),  # symbols and events by number
        ("predicted", pa.float64()),  # the likeliest symbol or event, the mean interval
    ]
)
SCHEMAS = {
    METRICS: METRICS_SCHEMA,
    GRADIENTS: GRADIENTS_SCHEMA,
    POSITIONS: POSITIONS_SCHEMA,
    PREDICTIONS: PREDICTIONS_SCHEMA,
}

ENDED_BY = "ended_by"  # beside the options of a finished run: what ended it, unless a budget of epochs or seconds
PATIENCE = "patience"  # without a better validation
DIVERGED = "diverged"  # metric, 1 where training was no longer finite
# The biases delta whose K(delta) every evaluation logs, whatever the policy.
LOGGED_DELTAS = (1.0, 0.9, 0.5, 0.1)
INTERVAL = 0.9  # share of resamples between `_low` and `_high`

# States in status.json. An interrupted run was ended by a signal, and stored a checkpoint first.
RUNNING, FINISHED, FAILED, INTERRUPTED = "running", "finished", "failed", "interrupted"


def metric_of_delta(delta: float) -> str:
    """`K_0.9` for delta 0.9: the smallest K whose relative bias is at most delta."""
    return f"K_{delta:g}"
