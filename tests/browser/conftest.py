"""A headless Chromium, and the report of a sweep with more runs than are shown at once."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from analysis.loading.results import Results
from analysis.report import write_report
from atbptt.runs import schema
from tests.helpers.made import write_plan, write_status

RUNS = 60
FAILED = 3  # of them
FLAGS = (
    "--headless",
    "--no-sandbox",  # there is none for root, and nothing but our own file is opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 runs, fixed K=2 and K=10 by turns, six lr; the i-th validated 1 + i / 10, the first 3 failed."""
    root = tmp_path_factory.mktemp("outputs")
    runs = {}
    for index in range(RUNS):
        directory = root / "demo" / f"{index:012x}"
        state = schema.FAILED if index < FAILED else schema.FINISHED
        write_status(directory, state, error="ValueError: no" if index < FAILED else None, train_seconds=float(index))
        if index < FAILED:
            (directory / schema.TRACEBACK).write_text(
                f"Traceback (most recent call last):\n{'x' * 300}\nValueError: no\n"
            )
        options = {
            "experiment_id": directory.name,
            "name": "demo",
            "dataset": "copy_fixed",
            "truncation": "fixed",
            "truncation.K": (2, 10)[index % 2],
            "lr": (1e-05, 2e-05, 0.001, 0.002, 10.0, 20.0)[index // 2 % 6],
            "init": index // 12,
        }
        pq.write_table(pa.Table.from_pylist([options]), directory / schema.OPTIONS)
        rows = [
            {
                "experiment_id": directory.name,
                "step": 100 * epoch,
                "epoch": float(epoch),
                "adaptive_epoch": float(epoch),
                "updates": 10 * epoch,
                "train_seconds": float(epoch),
                "metric": metric,
                "replicate": 0,
                "value": value,
            }
            for epoch in (1, 2)
            for metric, value in (("valid_ppl", 1 + index / 10), ("test_ppl", 2 + index / 10), ("K", 2.0))
        ]
        pq.write_table(pa.Table.from_pylist(rows, schema=schema.METRICS_SCHEMA), directory / schema.METRICS)
        runs[f"run={index}"] = directory
    write_plan(root, "first", runs)
    return write_report(Results(root), root / "report.html")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if browser is None or driver is None:
        pytest.skip("needs chromium and chromedriver: tests/browser/install.sh")
    options = ChromeOptions()
    options.binary_location = browser
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = Chrome(options=options, service=Service(driver))
    yield started
    started.quit()
