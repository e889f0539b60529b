"""docs/characters.py as a user runs it."""

import random
import re
import subprocess
import sys
from pathlib import Path


def characters(root: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(root / "docs" / "characters.py"), "text.txt"]
    environment = {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment, timeout=120)


def test_the_readme_shows_all_of_it_in_at_most_150_lines(root: Path) -> None:
    lines = (root / "docs" / "characters.py").read_text().splitlines()
    readme = (root / "README.md").read_text()
    assert len(lines) == 39
    assert "```python\n# characters.py\n" + "\n".join(lines[1:]) + "\n```" in readme
    assert len(readme.splitlines()) <= 150


def test_it_learns_a_text_and_reports_how_far_back_gradients_reach(root: Path, tmp_path: Path) -> None:
    words = ["how", "far", "back", "must", "a", "recurrent", "network", "backpropagate"]
    (tmp_path / "text.txt").write_text(" ".join(random.Random(0).choices(words, k=2000)), "utf-8")
    done = characters(root, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    epochs = re.findall(r"^epoch (\d): ([\d.]+) bits per character, K = (\d+)$", done.stdout, flags=re.MULTILINE)
    assert [int(number) for number, *_ in epochs] == [1, 2, 3, 4, 5]
    bits = [float(value) for _, value, _ in epochs]
    # The frequencies of characters alone give 3.9 bits, the words 0.56.
    assert bits[0] < 3
    assert bits[-1] < 1
    *_, sample, found = done.stdout.rstrip("\n").split("\n")
    assert len(sample) == 300
    assert len(set(sample.split()) & set(words)) >= 5
    lengths = re.fullmatch(r"K with a bias of at most 0.9, 0.5, 0.1: (\d+) (\d+) (\d+)", found)
    assert lengths is not None
    assert 1 <= int(lengths[1]) <= int(lengths[2]) <= int(lengths[3]) <= 80


def test_a_missing_or_short_text_is_reported(root: Path, tmp_path: Path) -> None:
    for text in (None, "too short"):
        if text is not None:
            (tmp_path / "text.txt").write_text(text)
        done = characters(root, tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "error: characters.py takes one argument, a text file of at least 5,000 characters\n"
