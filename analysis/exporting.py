"""`python -m analysis export`: results as files for other programs, CSV and TensorBoard."""

import gzip
import io
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd

from atbptt.errors import AnalysisError
from atbptt.runs.schema import METRICS_SCHEMA
from atbptt.system import replacing

from .loading import ID, Results

OPTIONS, METRICS, TENSORBOARD = "options.csv", "metrics.csv.gz", "tensorboard"
EVENTS = "events.out.tfevents.0.atbptt"  # always the same name: exported again, the file is replaced


def export(results: Results, folder: Path) -> list[Path]:
    """Write options and metrics as CSV and as TensorBoard event files; what an earlier export wrote there is replaced.

    - `options.csv`: a row a run, `experiment_id` and its options; empty where it has no such option.
    - `metrics.csv.gz`: a row per evaluation, metric and replicate, the columns of `metrics.parquet`; NaN is empty,
      infinity `inf`. To be joined on `experiment_id`, which is to be read as a string, else ids lose leading zeros and
      `1e5000000000` becomes infinite: `pandas.read_csv(path, dtype={"experiment_id": str})`.
    - `tensorboard/<experiment_id>/`: one event file, with a scalar for each metric, the mean over its replicates, at
      `step` training steps. Its wall time is the training time, in seconds from 1970, so that the axis RELATIVE shows
      it. The options stand under HPARAMS. Scalars have 32 bits.

    The same results give the same bytes.

    Arguments:
        results: of the runs.
        folder: where to; made if it is not there.

    Returns:
        The two files and the folder, or without evaluations the two files.

    Raises:
        AnalysisError: no runs that can be read.
        StorageError: a folder that cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise AnalysisError(f"{folder}: is a file; give a folder to write to")
    options, frame = results.options, results.frame
    with replacing(folder / OPTIONS) as path, open(path, "wb") as file:
        _write_csv(options, file)
    with (
        replacing(folder / METRICS) as path,
        open(path, "wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed,
    ):
        _write_csv(frame[METRICS_SCHEMA.names], packed)
    written = _write_events(options, frame, folder / TENSORBOARD)
    return [folder / OPTIONS, folder / METRICS, *([folder / TENSORBOARD] if written else [])]


def _write_csv(frame: pd.DataFrame, file: BinaryIO | gzip.GzipFile) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    frame.to_csv(text, index=False, lineterminator="\n")
    text.detach()


def _write_events(options: pd.DataFrame, frame: pd.DataFrame, folder: Path) -> int:
    """An event file for each run that was evaluated; returns how many."""
    from tensorboardX.record_writer import RecordWriter

    settings = {name: options[name].tolist() for name in options.columns}
    places = {run: place for place, run in enumerate(settings.pop(ID))}
    runs = _scalars(frame).groupby(ID, sort=False)
    for run, rows in runs:
        own = {name: values[places[str(run)]] for name, values in settings.items()}
        with replacing(folder / str(run) / EVENTS) as path:
            writer = RecordWriter(str(path))
            for event in _events(own, rows):
                writer.write(event)
            writer.close()
    for path in folder.glob(f"*/{EVENTS}"):
        if path.parent.name not in runs.groups:  # of an earlier export
            path.unlink()
            if not any(path.parent.iterdir()):
                path.parent.rmdir()
    return len(runs)


def _scalars(frame: pd.DataFrame) -> pd.DataFrame:
    """A row per evaluation and metric: the mean over replicates, NaN if one is."""
    rows = frame[[ID, "step", "train_seconds", "metric", "value"]]
    rows = rows.assign(undefined=rows["value"].isna())
    evaluations = rows.groupby([ID, "step", "train_seconds", "metric"], observed=True, sort=False)
    scalars = evaluations.agg(value=("value", "mean"), undefined=("undefined", "any")).reset_index()
    return scalars.assign(value=scalars["value"].mask(scalars["undefined"]))


def _events(options: dict[str, Any], rows: pd.DataFrame) -> Iterator[bytes]:
    from tensorboardX.proto.event_pb2 import Event
    from tensorboardX.proto.summary_pb2 import Summary
    from tensorboardX.summary import hparams

    yield Event(wall_time=0.0, file_version="brain.Event:2").SerializeToString()
    given = {name: _finite(value) for name, value in options.items() if not pd.isna(value)}
    for summary in hparams(given, dict.fromkeys(rows["metric"].astype(str).unique())):
        yield Event(wall_time=0.0, step=0, summary=summary).SerializeToString()
    clocks = zip(rows["metric"], rows["step"], rows["train_seconds"], rows["value"], strict=True)
    for metric, step, seconds, value in clocks:
        scalar = Summary(value=[Summary.Value(tag=metric, simple_value=value)])
        yield Event(wall_time=seconds, step=step, summary=scalar).SerializeToString()


def _finite(option: Any) -> Any:
    return str(option) if isinstance(option, float) and not math.isfinite(option) else option
