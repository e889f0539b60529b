import resource
import subprocess
import sys
from pathlib import Path

import pytest

from atbptt.errors import ConfigError
from atbptt.system import resources
from atbptt.system.resources import as_size, free_memory, require_memory

GB = 10**9


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 20 GB free, in whose /proc and /sys/fs/cgroup tests write."""
    monkeypatch.setattr(resources, "PROCESSES", tmp_path / "proc")
    monkeypatch.setattr(resources, "GROUPS", tmp_path / "groups")
    monkeypatch.setattr(resource, "getrlimit", lambda _: (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    (tmp_path / "proc" / "self").mkdir(parents=True)
    kilobytes = 20 * GB // 1024 + 1
    (tmp_path / "proc" / "meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {kilobytes} kB\nOdd\n")
    return tmp_path


def group(folder: Path, names: tuple[str, ...], limit: str, used: int, cached: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / names[0]).write_text(f"{limit}\n")
    (folder / names[1]).write_text(f"{used}\n")
    (folder / "memory.stat").write_text(
        f"anon 1\n{names[2]}inactive_file {cached - cached // 4}\n{names[2]}active_file {cached // 4}\n"
    )


def test_a_machine_without_limits(machine: Path) -> None:
    assert as_size(free_memory()) == "20 GB"
    (machine / "proc" / "self" / "cgroup").write_text("0::/\n")
    assert as_size(free_memory()) == "20 GB"
    (machine / "proc" / "meminfo").unlink()  # not Linux
    assert free_memory() > 0


@pytest.mark.parametrize(
    ("line", "root", "names"),
    [
        ("0::/job/step", "groups", resources.FILES),
        ("4:memory:/job/step", "groups/memory", resources.FILES_OF_VERSION_1),
    ],
)
def test_the_limits_of_control_groups_count_without_what_can_be_freed(
    machine: Path, line: str, root: str, names: tuple[str, ...]
) -> None:
    (machine / "proc" / "self" / "cgroup").write_text(f"9:name=systemd:/\n{line}\n")
    inner = machine / root / "job" / "step"
    group(inner, names, str(9 * GB), 5 * GB, 2 * GB)
    assert free_memory() == 6 * GB
    group(inner.parent, names, str(5 * GB), 4 * GB, 0)  # the whole job's
    assert free_memory() == 1 * GB
    group(inner.parent, names, "max", 4 * GB, 0)
    assert free_memory() == 6 * GB
    group(inner, names, str(9 * GB), 99 * GB, 0)
    assert free_memory() == 0
    (machine / "proc" / "self" / "cgroup").write_text(line.partition("/")[0] + "/elsewhere\n")  # as in a container
    group(machine / root, names, str(3 * GB), 0, 0)
    assert free_memory() == 3 * GB


def test_ulimit_counts() -> None:
    code = "from atbptt.system.resources import free_memory; print(free_memory())"
    command = f"ulimit -v 1000000; exec {sys.executable} -c '{code}'"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert 10**8 < int(done.stdout) < 1024 * 10**6


def test_what_needs_more_is_refused_with_both_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "free_memory", lambda: 20 * GB)
    require_memory("steps", 3, 20 * GB)
    message = r"^steps \(=3\) with 64 streams needs about 1\.6 TB of memory, and 20 GB are free$"
    with pytest.raises(ConfigError, match=message):
        require_memory("steps", 3, 1600 * GB, "with 64 streams")
    with pytest.raises(ConfigError, match=r"^steps \(=3\) needs about "):
        require_memory("steps", 3, 20 * GB + 1)


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (9900, "9.9 kB"), (10**4, "10 kB"), (2**62, "4.6 EB")],
)
def test_sizes_are_shown_for_a_person_to_read(count: int, text: str) -> None:
    assert as_size(count) == text
    assert as_size(10**40).endswith(" YB")
