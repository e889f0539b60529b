"""A headless Chromium, and the report of a sweep with more runs than it shows at first."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service

from analysis.loading.results import Results
from analysis.report import write_report
from atbptt.runs import schema
from tests.helpers.made import write_plan, write_status
from tests.helpers.made_runs import run

RUNS = 60
FAILED = 3  # of them
FLAGS = (
    "--headless",
    "--no-sandbox",  # not available to root; only our own files are opened
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def screen(page: Chrome, width: int, scheme: str = "light") -> None:
    """Give the page a screen of this width, and a reader who wants it light or dark."""
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 700}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": features})


def opened(page: Chrome, path: Path, width: int = 1280, scheme: str = "light") -> Chrome:
    screen(page, width, scheme)
    page.get_log("browser")
    page.get_log("performance")
    page.get(path.as_uri())
    return page


def requested(page: Chrome) -> list[str]:
    """What was asked for since the page was opened."""
    messages = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    sent = [message["params"] for message in messages if message["method"] == "Network.requestWillBeSent"]
    return [request["request"]["url"] for request in sent]


@pytest.fixture(scope="session")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60 runs, fixed K=2 and K=10 alternately, six lr; run i has a validation of 1 + i / 10; the first 3 failed."""
    root = tmp_path_factory.mktemp("outputs")
    runs = {}
    for index in range(RUNS):
        directory = runs[f"run={index}"] = root / "demo" / f"{index:012x}"
        state = schema.FAILED if index < FAILED else schema.FINISHED
        write_status(directory, state, error="ValueError: no" if index < FAILED else None, train_seconds=float(index))
        if index < FAILED:
            text = f"Traceback (most recent call last):\n{'x' * 300}\nValueError: no\n"
            (directory / schema.TRACEBACK).write_text(text)
        values = {"valid_ppl": [99, 1 + index / 10], "test_ppl": [99, 2 + index / 10], "K": [2.0] * 2}
        lr = (1e-05, 2e-05, 0.001, 0.002, 10.0, 20.0)[index // 2 % 6]
        options = {"name": "demo", "dataset": "copy_fixed", "lr": lr, "init": index // 12}
        frame = run(directory.name, values, truncation__K=(2, 10)[index % 2], **options)
        rows = frame.reindex(columns=schema.METRICS_SCHEMA.names)
        rows.to_parquet(directory / schema.METRICS, schema=schema.METRICS_SCHEMA)
        names = [name for name in frame if name not in schema.METRICS_SCHEMA.names or name == "experiment_id"]
        frame[names].head(1).dropna(axis="columns").to_parquet(directory / schema.OPTIONS)
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
