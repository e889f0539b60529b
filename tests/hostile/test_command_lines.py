"""Command lines and YAML files that are wrong, odd, huge or hostile: one line says what, and how it should be."""

import multiprocessing
import os
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.forkserver import ForkServer
from pathlib import Path
from unittest.mock import Mock

import pytest

from atbptt.__main__ import main as command
from atbptt.config.composing import CHARACTERS, RUNS
from atbptt.errors import ConfigError
from atbptt.sweeps import process
from atbptt.system.yaml_files import BYTES, LEVELS, VALUES
from tests.hostile.conftest import Answer, Command

OPTUNA = ("-m", "hydra/sweeper=optuna", "lr=interval(0.1,1)")
PREVIEW = "preview=true"
ESCAPE = "\x1b]0;title"  # what a terminal obeys: another title
SHOWN = "\\x1b]0;title"
FAKE = "x\nerror: fake"
DIGITS = "9" * 4301  # Python reads no more of a whole number
LONG = "a" * 9000
MODEL = "_target_: atbptt.models.RecurrentNetwork\n"
FOLDER_NAME = "must be the name of a folder, without / or \\, control characters, a dot before or blanks around it"


def nested(levels: int) -> str:
    return "[" * levels + "1" + "]" * levels


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["init=range(1000000)"], ["init=range(1000000) asks for 1,000,000 runs", f"at most {RUNS:,}"]),
        (["init=range(1000)", "seed=range(1000)", "lr=range(1,1001)"], ["asks for 1,000,000,000 runs"]),
        (["init=range(0,300)", f"lr={','.join(map(str, range(1, 51)))}"], ["asks for 15,000 runs"]),
        (["lr=range(0.1,100000000,0.1)"], ["asks for 999,999,999 runs"]),
        (["lr=range(1,2,1e-300)"], ["asks for more than 10^15 runs"]),
        (["init=sort(range(1000000000))"], ["asks for 1,000,000,000 runs"]),
        (["init=shuffle(range(1000000000))"], ["asks for 1,000,000,000 runs"]),
        (["init=range(1000000000)", "init=1,2"], ["asks for 1,000,000,000 runs"]),
        (["model=range(1000000000)"], ["asks for 1,000,000,000 runs"]),
        (["hydra.launcher.n_jobs=range(1000000000)"], ["asks for 1,000,000,000 runs"]),
        (["--cfg=job", "init=range(1000000)"], ["asks for 1,000,000 runs"]),
        (["init=range(0,10,0)"], ["init (=range(0,10,0)) must be a range of finite numbers"]),
        (["lr=range(0.1,nan,0.1)"], ["lr (=range(0.1,nan,0.1)) must be a range of finite numbers"]),
        (["lr=range(0.1,inf,0.1)"], ["lr (=range(0.1,inf,0.1)) must be a range of finite numbers"]),
        (["lr=int(range(0,1,0.1))"], ["must be a range of finite numbers, with a step other than 0"]),
        (["lr=choice(choice(1,2),choice(3))"], ["a sweep cannot be a value of another"]),
        ([*OPTUNA, "init=range(1000000)"], ["init=range(1000000) asks for 20,000,000 runs"]),
        ([*OPTUNA, "hydra.sweeper.n_trials=1000000000"], ["hydra.sweeper.n_trials (=1000000000) must be at most"]),
        ([*OPTUNA, "lr=range(0.1,1000000000,0.1)"], ["lr=range(0.1,1000000000,0.1) asks for 9,999,999,999 runs"]),
        ([*OPTUNA, "lr=range(1,10,0)"], ["lr (=range(1,10,0)) must be a range of finite numbers"]),
        (["--cfg=job", *OPTUNA, "init=range(1000000000)"], ["asks for 20,000,000,000 runs"]),
    ],
)
def test_more_runs_than_can_be_planned_are_counted_not_made(
    launched: Command, arguments: list[str], words: list[str]
) -> None:
    preview = [] if "--cfg=job" in arguments else [PREVIEW]
    launched("-m", *arguments, *preview).check(1, *words)


def test_a_search_among_a_milliard_of_whole_numbers_makes_none_of_them(launched: Command) -> None:
    launched(*OPTUNA[:2], "seed=range(1,1000000000)", "--cfg=job", "-p", "seed").check(0, "\n999999999\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([f"lr={number}" for number in range(3000)], ["a command line of 3,001 options", "at most 500 options"]),
        ([f"+foo{number}=1" for number in range(501)], ["a command line of 502 options"]),
        (["-m"] * 3000, ["a command line of 3,001 options"]),
        (["lr=" + "a" * 100_000], ["100,015 characters is too long", f"{CHARACTERS:,} characters", "lr=aaaa"]),
        (["lr=[" + "1," * 50_000 + "1]"], ["is too long"]),
        (["init=" + ",".join(map(str, range(20_000)))], ["is too long"]),
        ([LONG], ["cannot be read: options are given as key=value"]),
        ([f"{LONG}=1"], ["is no option"]),
        ([f"~{LONG}"], ["is no option"]),
        ([f"~lr={LONG}"], ["Could not delete from config"]),
        ([f"+lr={LONG}"], ["An item is already at 'lr'"]),
        ([f"model={LONG}"], ["model (=aaaa", "is no option; the options are gru, lstm"]),
        ([f"model@{LONG}=lstm"], ["model@aaaa", "is no option"]),
        ([f"hydra/launcher={LONG}"], ["hydra/launcher (=aaaa", "is no option"]),
        ([f"truncation.{LONG}=1"], ["truncation.aaaa", "is no option; the options of truncation=fixed are K"]),
        ([f"model._target_={LONG}"], ["model._target_ (=aaaa", "cannot be imported"]),
        ([f"hydra.launcher.n_jobs={LONG}"], ["hydra.launcher.n_jobs (=aaaa", "cannot be set"]),
        ([f"hydra.searchpath=[{LONG}]"], ["hydra.searchpath (=aaaa", "is no folder"]),
        ([f"lr=${{{LONG}}}"], ["lr cannot be resolved: Interpolation key 'aaaa"]),
        ([f"lr='{LONG}"], ["cannot be read"]),
        (["arm=K" + "1" * 9000], ["arm (=K1111", "is no option; it is K with a length"]),
        (["arm=delta" + "1" * 400], ["arm (=delta1111", "is no option; it is K with a length"]),
        ([f"--{LONG}"], ["unrecognized arguments: --aaaa"]),
        ([f"--config-dir={LONG}"], ["--config-dir (=aaaa", "is no folder"]),
        ([f"--config-name={LONG}"], ["--config-name (=aaaa", "is no option"]),
        ([f"--config-path={LONG}"], ["--config-path (=aaaa", "is no folder"]),
        (["--cfg", LONG], ["invalid choice: 'aaaa"]),
        (["--cfg=job", "-p", LONG], ["--package (=aaaa", "is no part of the config"]),
    ],
)
def test_long_command_lines_are_refused_and_long_values_shortened(
    launched: Command, arguments: list[str], words: list[str]
) -> None:
    preview = [] if arguments[0].startswith("--cfg") else [PREVIEW]
    answer = launched(*arguments, *preview)
    answer.check(1, *words)
    assert "a" * 301 not in answer.err
    assert "1" * 301 not in answer.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["truncation.k=3"], ["truncation.k is no option; did you mean K?"]),
        (["TRUNCATION.K=3"], ["TRUNCATION.K is no option; did you mean truncation.K?"]),
        (["k=3"], ["k (=3) is no option; did you mean truncation.K?"]),
        (["LR=3"], ["LR is no option; did you mean lr?"]),
        (["MODEL=lstm"], ["MODEL is no option; did you mean model?"]),
        (["model=LSTM"], ["model (=LSTM) is no option; did you mean lstm?"]),
        (["model.HIDDEN=3"], ["model.HIDDEN is no option; did you mean hidden?"]),
        (["model.cell=LSTM"], ["model.cell (=LSTM) must be one of", "did you mean lstm?"]),
        (["device.threads=null"], ["device.threads (=null) must be a valid integer"]),
        (["device=CPU"], ["device (=CPU) is no option; did you mean cpu?"]),
        (["hydra.launcher.N_JOBS=1"], ["hydra.launcher.N_JOBS is no option; did you mean n_jobs?"]),
        ([f"lr={nested(1000)}"], ["'lr=[[[", "it is nested too deep"]),
        ([f"lr={nested(LEVELS + 1)}"], ["'lr=[[[", f"it is nested too deep, with more than {LEVELS} levels"]),
        (["lr=" + "{a:" * 500 + "1" + "}" * 500], ["it is nested too deep"]),
        (["lr=" + "int(" * 800 + "1" + ")" * 800], ["it is nested too deep"]),
        (["+" + "a." * 150 + "b=1"], ["it is nested too deep"]),
        ([f"truncation.K={DIGITS}"], ["'truncation.K=9999", "Exceeds the limit (4300 digits)"]),
        ([f"lr=-{DIGITS}"], ["'lr=-9999", "Exceeds the limit"]),
        (["-m", f"seed=range({DIGITS})"], ["'seed=range(9999", "Exceeds the limit"]),
        ([f"arm=K{DIGITS}"], ["arm (=K9999", "is no option"]),
        (["=1"], ["'=1' cannot be read: options are given as key=value"]),
        (["~"], ["'~' cannot be read"]),
        (["name=ü"], ["'name=ü' cannot be read", "what is no plain word in quotes: \"key='a value'\""]),
        (["hydra.sweeper=null"], ["hydra.sweeper (=null) must have a _target_"]),
        (["--config-path=/nowhere"], ["--config-path (=/nowhere) is no folder"]),
        (["--help", "model=x"], ["model (=x) is no option"]),
        (["--hydra-help", "lr=1"], ["lr is no option"]),
        (["--help", "lr"], ["'lr' cannot be read"]),
        (["--cfg=job", "--resolve", "lr=${nowhere}"], ["cannot be resolved: Interpolation key 'nowhere' not found"]),
        (["-sc", "query=bash"], ["COMP_LINE is missing from the environment: shells ask this"]),
        (["-sc", "query=zsh"], ["COMP_LINE is missing"]),
        (["-sc", "query=fish"], ["COMP_LINE is missing"]),
        (["output_dir=' '"], ["output_dir (= ) must be a folder"]),
        (["output_dir='a\0b'"], ["output_dir (=a\\x00b) must be the path of a folder, without control characters"]),
        (["output_dir='a\nb'"], ["output_dir (=a\\nb) must be the path of a folder"]),
        *(
            ([*before, f"{name}={value}"], [f"{name} (=", FOLDER_NAME])
            for before, name in (([], "name"), (OPTUNA, "hydra.sweeper.study_name"))
            for value in (".x", ".sweeps", "..", "'a '", "' a'", "' '", "'a\nb'", "'a\tb'", "'a\x1bb'", "'a\u202eb'")
        ),
        ([f"name={'a' * 201}"], ["name (=aaaa", "and of at most 200 bytes"]),
    ],
)
def test_what_was_meant_is_said_in_one_line(
    launched: Command, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: list[str]
) -> None:
    monkeypatch.delenv("COMP_LINE", raising=False)
    shows = any(argument in ("--help", "--hydra-help", "-sc", "--cfg=job") for argument in arguments)
    answer = launched(*arguments, *[] if shows else [PREVIEW])
    answer.check(1, *words)
    assert answer.err.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        *(
            (arguments, "probe.window is no option of probe=none, which has none")
            for arguments in (
                *(f"probe=none {plus}probe.window=60" for plus in ("", "+", "++")),
                "probe.window=60 probe=none",
                "experiment=copy_fixed probe=none probe.window=60",
                "probe=none probe={window:60}",
                "-m probe=none,default ++probe.window=60",
                "-m hydra/sweeper=optuna probe=none probe.window=range(50,60)",
            )
        ),
        ("probe=none probe.estimator=max", "probe.estimator is no option of probe=none, which has none"),
        ("probe=no", "probe (=no) is no option; did you mean none?; the options are default, none"),
        *((f"probe={v}", f"probe (={v}) must be one of default, none") for v in ("null", "60", "false")),
        ("+probe=none", "probe is chosen already: probe=... without + chooses another"),
        ("probe=none lr=${probe.window}", "lr cannot be resolved"),
        *(
            (arguments, f"probe (=none) must be default with truncation={policy}, which needs probes; fixed, for one,")
            for arguments, policy in (
                ("probe=none truncation=progress", "progress"),
                ("probe=none arm=delta0.5", "adaptive"),
                ("-m probe=default,none truncation=fixed,adaptive", "adaptive"),
            )
        ),
    ],
)
def test_probes_that_there_are_none_of_have_no_options_and_no_policy(
    launched: Command, arguments: str, words: str
) -> None:
    launched(*arguments.split(), PREVIEW).check(1, words)


@pytest.mark.parametrize(
    "arguments",
    [
        [f"{ESCAPE}=1"],
        [f"lr='{ESCAPE}'"],
        [f"model='{ESCAPE}'"],
        [f"tags=['{ESCAPE}']"],
        ["-m", f"lr=1,'{ESCAPE}'"],
        [f"hydra.launcher.n_jobs='{ESCAPE}'"],
        [f"hydra.searchpath=['{ESCAPE}']"],
        [f"--{ESCAPE}"],
        ["--config-dir", ESCAPE],
        ["--config-name", ESCAPE],
        ["--cfg=job", "-p", ESCAPE],
        ["--help", f"lr={ESCAPE}"],
        ["--info", "all", f"model='{ESCAPE}'"],
    ],
)
def test_control_characters_are_shown_as_escapes(launched: Command, arguments: list[str]) -> None:
    launched(*arguments).check(1, SHOWN)


@pytest.mark.parametrize(
    "arguments",
    [
        [f"lr={FAKE}"],
        [f"lr='{FAKE}'"],
        [f"{FAKE}=1"],
        [FAKE],
        [f"model='{FAKE}'"],
        [f"hydra/launcher='{FAKE}'"],
        [f"hydra.launcher.n_jobs='{FAKE}'"],
        [f"--config-dir={FAKE}"],
        [f"--config-name={FAKE}"],
        [f"preview={FAKE}"],
        ["--cfg=job", "-p", FAKE],
    ],
)
def test_a_new_line_in_a_value_begins_no_line(launched: Command, arguments: list[str]) -> None:
    answer = launched(*arguments)
    answer.check(1)
    assert "\nerror: fake" not in answer.out + answer.err


def test_a_label_with_a_new_line_is_one_line(launched: Command) -> None:
    launched("-m", "--cfg=job", "monitor=null,'x\nlr: 2'", "-p", "lr").check(0, "# monitor='x\\nlr: 2'\n1.0\n")


def bomb() -> str:
    """Ten times ten times ... values, by aliases."""
    lines = ["a0: &a0 [x,x,x,x,x,x,x,x,x,x]", *(f"a{n}: &a{n} [{f'*a{n - 1},' * 10}]" for n in range(1, 9))]
    return "\n".join(lines)


YAML: list[tuple[str | bytes | Callable[[Path], object], str]] = [
    (bytes(range(256)), "must be text in UTF-8"),
    ("name: caf\xe9".encode("latin-1"), "must be text in UTF-8: unexpected end of data at byte 9"),
    (MODEL.encode("utf-16"), "must be text in UTF-8"),
    ("[1, 2]", "must hold names with values, as in `lr: 1`, and is a list"),
    ("hello", "must hold names with values, as in `lr: 1`, and is one value"),
    ("a: 1\n---\nb: 2", "cannot be read as YAML: found another document (line 2, column 1)"),
    (f"a: {nested(400)}", "is nested too deep"),
    ("\n".join(" " * level + "a:" for level in range(60)), f"is nested too deep: must have at most {LEVELS} levels"),
    ("hidden: 3\nhidden: 4", "cannot be read as YAML: found duplicate key hidden (line 2, column 1)"),
    ("\thidden: 3", "cannot be read as YAML: found character '\\t'"),
    ("a: b\0c", "cannot be read as YAML"),
    ("a: &a [*a]", "contains itself, by an alias"),
    ("a: &a {<<: *a}", "contains itself, by an alias"),
    (bomb(), f"holds 1,234,567,909 values, with those that aliases repeat: must hold at most {VALUES:,}"),
    (f"x: {'a' * BYTES}", "is too large: must have at most 250,000 bytes"),
    (f"hidden: {DIGITS}", "cannot be read as YAML: ValueError: Exceeds the limit (4300 digits)"),
    ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor for the tag"),
    ("a: !!set {b, c}", "cannot be read"),
    ("null: 3", "cannot be read"),
    ("# @package a b\na: 1", "cannot be read: ValueError: Too many components"),
    (Path.mkdir, "cannot be read: is a folder, not a file"),
    (os.mkfifo, "cannot be read: is a pipe or a device, not a file"),
    (lambda file: file.symlink_to("/dev/zero"), "cannot be read: is a pipe or a device, not a file"),
    (lambda file: file.symlink_to("nowhere"), "is a link to nowhere"),
    (lambda file: file.symlink_to(file), "cannot be read: Too many levels of symbolic links"),
    ("defaults: [mine]", "includes itself by the defaults of model/mine.yaml -> model/mine.yaml"),
    ("defaults: [[a]]", "has no list of defaults as Hydra reads it"),
    ("defaults: 3", "defaults must be a list"),
]


def check_yaml(
    here: Path, content: str | bytes | Callable[[Path], object], answer: Callable[[], Answer], words: str
) -> None:
    """That a file of a group is named, with what is wrong with it."""
    file = here / "yamls" / "model" / "mine.yaml"
    file.parent.mkdir(parents=True)
    if callable(content):
        content(file)
    else:
        file.write_bytes(content.encode() if isinstance(content, str) else content)
    answer().check(1, "model/mine.yaml ", words)


@pytest.mark.parametrize(("content", "words"), YAML)
def test_yaml_that_cannot_be_read_is_named(
    launched: Command, here: Path, content: str | bytes | Callable[[Path], object], words: str
) -> None:
    check_yaml(here, content, lambda: launched("--config-dir=yamls", "model=mine", PREVIEW), words)


@pytest.mark.parametrize(("content", "words"), [each for each in YAML if not callable(each[0])][::4])
@pytest.mark.parametrize("place", ["file://{}/yamls", "pkg://yamls"])
def test_yaml_of_hydras_search_path_is_named(
    launched: Command, here: Path, content: str | bytes, words: str, place: str
) -> None:
    (here / "yamls").mkdir()
    (here / "yamls" / "__init__.py").touch()
    sys.modules.pop("yamls", None)
    searched = f"hydra.searchpath=['{place.format(here)}']"
    check_yaml(here, content, lambda: launched(searched, "model=mine", PREVIEW), words)


@pytest.mark.parametrize(
    ("flag", "text", "words"),
    [
        ("-m", "lr: [0.3, 1]", "params.lr (=[0.3, 1]) is a list, a single value: several are a text, lr: 0.3,1"),
        ("-m", "truncation: [fixed, full]", "is a list, a single value: several are a text, truncation: fixed,full"),
        ("-m", "truncation: {K: 3}", "params.truncation (={'K': 3}) is a section, which has no values to sweep"),
        ("-m", "lrr: 1,2", "lrr is no option; did you mean lr?"),
        ("-m", "lr: 1,,2", "'lr=1,,2' cannot be read"),
        ("-m", "lr: ''", "lr (=) must be a valid number"),
        ("-m", "lr: null", "hydra.sweeper.params.lr cannot be set as in experiment/mine.yaml"),
        ("-m", "tags: a,b", "are the same run with another tags: a sweep may name each run once"),
        ("-m", "lr: interval(1,2)", "lr=interval(1,2) is a range to search: add hydra/sweeper=optuna"),
        ("-m", "init: range(1000000)", "init=range(1000000) asks for 1,000,000 runs"),
        ("lr=1", "lr: 1\n      init: 2", "hydra.sweeper.params sweeps init: add -m, or hydra.mode=RUN for one run"),
    ],
)
def test_what_an_experiment_cannot_sweep_is_named(
    launched: Command, here: Path, flag: str, text: str, words: str
) -> None:
    (here / "experiment").mkdir()
    sweeper = f"hydra:\n  sweeper:\n    params:\n      {text}\n"
    (here / "experiment" / "mine.yaml").write_text(f"# @package _global_\n{sweeper}")
    launched("--config-dir=.", flag, "experiment=mine", PREVIEW).check(1, words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("lr: 1", "experiment is no section: the first line of its file must be `# @package _global_`"),
        ("defaults: [override /model: gru]", "or `# @package _global_` is not a file's first line"),
        ("# mine\n# @package _global_\ndefaults: [override /hydra/launcher: basic]", "is not a file's first line"),
    ],
)
def test_an_experiment_that_is_not_said_to_be_global_is_told_so(
    launched: Command, here: Path, text: str, words: str
) -> None:
    (here / "experiment").mkdir()
    (here / "experiment" / "mine.yaml").write_text(text + "\n")
    launched("--config-dir=.", "experiment=mine", PREVIEW).check(1, words)


def test_a_primary_config_and_what_it_sweeps_are_checked_alike(launched: Command, here: Path) -> None:
    (here / "bomb.yaml").write_text(bomb())
    launched("--config-dir=.", "--config-name=bomb", PREVIEW).check(1, "bomb.yaml holds 1,234,567,909 values")
    (here / "large.yaml").write_text("defaults: [config, _self_]\nhydra: {sweeper: {params: {init: range(1000000)}}}\n")
    launched("--config-dir=.", "--config-name=large", "-m", PREVIEW).check(1, "init=range(1000000) asks for 1,000,000")
    (here / "loop.yaml").write_text("defaults: [other, _self_]\n")
    (here / "other.yaml").write_text("defaults: [loop, _self_]\n")
    loop = "loop.yaml includes itself by the defaults of loop.yaml -> other.yaml -> loop.yaml"
    launched("--config-dir=.", "--config-name=loop", PREVIEW).check(1, loop)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda out: out.symlink_to(out), "o is a link to nowhere"),
        (lambda out: out.symlink_to("nowhere"), "o is a link to nowhere"),
        (lambda out: out.touch(), "o is no folder"),
        (os.mkfifo, "o is no folder"),
        (lambda out: (out.mkdir(), (out / "copy_fixed").symlink_to("nowhere")), "copy_fixed is a link to nowhere"),
        (lambda out: (out.mkdir(), (out / ".sweeps").touch()), "/o/.sweeps is no folder"),
    ],
)
def test_an_output_dir_that_cannot_be_one_is_refused(
    launched: Command, here: Path, make: Callable[[Path], object], words: str
) -> None:
    make(here / "o")
    launched("output_dir=o", PREVIEW).check(1, "output_dir (=o/", "cannot be written", words)


def test_completion_without_its_environment_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command `atbptt` once set an empty line itself."""
    monkeypatch.delenv("COMP_LINE", raising=False)
    monkeypatch.setattr(sys, "argv", ["atbptt", "-sc", "query=bash"])
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr("atbptt.sweeps.leave", sys.exit)
    with pytest.raises(SystemExit) as ended:
        command()
    assert ended.value.code == 1
    assert capsys.readouterr().err.startswith("error: COMP_LINE is missing from the environment")


def test_a_folder_that_is_gone_is_no_place_to_launch_from(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(here)
    here.rmdir()
    monkeypatch.setattr(sys, "argv", ["atbptt", "launch", PREVIEW])
    with pytest.raises(SystemExit, match=r"^error: the folder where you are has been deleted$"):
        command()


def test_a_tmpdir_too_long_for_a_socket_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("a" * 100)
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setitem(multiprocessing.current_process()._config, "tempdir", None)  # type: ignore[attr-defined]
    monkeypatch.setattr(process, "ensure_running", ForkServer().ensure_running)
    monkeypatch.setenv(process.WANTED_VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    with pytest.raises(
        ConfigError, match=r"^TMPDIR \(=.*aaa.*\) cannot hold the socket .*: AF_UNIX path too long; set it"
    ):
        process.prepare()


def test_a_tmpdir_is_not_blamed_where_no_process_can_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "ensure_running", Mock(side_effect=BlockingIOError(11, "no more processes")))
    monkeypatch.setenv(process.WANTED_VARIABLE, "")
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    with pytest.raises(ChildProcessError, match=r"forked from cannot be started: \[Errno 11\] no more processes$"):
        process.prepare()
