"""`python -m analysis export`: results as files for other programs, CSV and TensorBoard."""

import gzip
import io
from pathlib import Path
from typing import BinaryIO

import pandas as pd

from atbptt.errors import AnalysisError
from atbptt.runs.schema import METRICS_SCHEMA
from atbptt.system import check_inside, replacing

from .following import installed
from .loading import Results
from .tables import without_formulas

OPTIONS, METRICS, TENSORBOARD = "options.csv", "metrics.csv.gz", "tensorboard"


def export(results: Results, folder: Path) -> list[Path]:
    """Write options and metrics as CSV and as TensorBoard event files; what an earlier export wrote there is replaced.

    - `options.csv`: a row a run, `experiment_id` and its options; empty where it has no such option.
    - `metrics.csv.gz`: a row per evaluation, metric and replicate, the columns of `metrics.parquet`; NaN is empty,
      infinity `inf`. To be joined on `experiment_id`, which is to be read as a string, else ids lose leading zeros and
      `1e5000000000` becomes infinite: `pandas.read_csv(path, dtype={"experiment_id": str})`.
    - `tensorboard/`: what `follow --to tensorboard --once` writes, see `TensorBoard`.

    Texts that a spreadsheet would compute begin with an apostrophe, control characters are escapes. The same
    results give the same bytes.

    Arguments:
        results: of the runs.
        folder: where to; made if it is not there.

    Returns:
        The two files and the folder.

    Raises:
        AnalysisError: no runs that can be read; TensorBoard is not installed.
        StorageError: a folder that cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise AnalysisError(f"{folder}: is a file; give a folder to write to")
    with installed("tensorboard"):
        from .following import write_events
    options, frame = results.options, results.frame
    with replacing(folder / OPTIONS) as path, open(path, "wb") as file:
        _write_csv(options, file)
    with (
        replacing(folder / METRICS) as path,
        open(path, "wb") as file,
        gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0) as packed,
    ):
        _write_csv(frame[METRICS_SCHEMA.names], packed)
    check_inside(folder / TENSORBOARD, folder)
    write_events(results, folder / TENSORBOARD)
    return [folder / OPTIONS, folder / METRICS, folder / TENSORBOARD]


def _write_csv(frame: pd.DataFrame, file: BinaryIO | gzip.GzipFile) -> None:
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    without_formulas(frame).to_csv(text, index=False, lineterminator="\n")
    text.detach()
