"""The command as a shell meets it: names, output, signals, completion."""

from __future__ import annotations

import ast
import contextlib
import importlib
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from specprod.cli.main import main

ROOT = Path(__file__).resolve().parents[1]
COMMAND = str(Path(sys.executable).with_name("specprod-load"))


def run(*words: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if not key.startswith(("SPECPROD_", "PYTHON"))}
    command = [COMMAND, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, env={**environ, **variables}, check=False)


@pytest.mark.parametrize("path", sorted((ROOT / "src/specprod/cli").glob("*.py")), ids=lambda path: path.name)
def test_functions_of_the_command_line_have_few_parameters(path: Path) -> None:
    functions = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]
    counts = {item.name: len(item.args.args) + len(item.args.kwonlyargs) for item in functions}
    assert {name: count for name, count in counts.items() if count > 8} == {}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["rn"], 2, "No such command 'rn'; did you mean run?"),
        (["zzz"], 2, "No such command 'zzz'."),
        (["coeff-fix", "exract"], 2, "No such command 'exract'; did you mean extract?"),
        (["run", ".", "--specprod", "irn"], 2, "unknown production 'irn'; known are fuji, "),
        (["run", ".", "--specprod", "irn"], 2, "; did you mean iron?"),
        (["run", ".", "--specprod", "iron", "--stage", "target-phot"], 2, "; did you mean targetphot?"),
        (["config", "loading.chunksiz"], 2, "; did you mean loading.chunksize?"),
    ],
)
def test_mistyped_names(words: list[str], code: int, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == code
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.out == ""


def test_mistyped_keys_of_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.toml").write_text('[productions.mine]\nreleas = "dr1"\n')
    assert main(["config", "--config", str(tmp_path / "a.toml")]) == 2
    assert "unknown key productions.mine.releas; " in (said := capsys.readouterr().err)
    assert said.endswith("; did you mean release?\n")


def test_module() -> None:
    done = subprocess.run([sys.executable, "-m", "specprod", "--help"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, run("--help").stdout)


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("words", [["config"], ["--help"], ["run", "--help"]], ids=" ".join)
def test_a_reader_that_leaves_ends_it_quietly(words: list[str], unbuffered: str) -> None:
    """As tools end that SIGPIPE kills."""
    script = 'set -o pipefail; "$@" | true'
    done = subprocess.run(
        ["bash", "-c", script, "-", COMMAND, *words],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        check=False,
    )
    assert (done.returncode, done.stderr) == (141, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_output_on_a_full_device(unbuffered: str) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [COMMAND, "config"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "specprod-load: standard output: No space left on device\n")


def test_completion(tmp_path: Path) -> None:
    def completed(*words: str, **variables: str) -> list[str]:
        asked = {"_SPECPROD_LOAD_COMPLETE": "bash_complete", "COMP_CWORD": str(len(words))}
        done = run(COMP_WORDS=" ".join(["specprod-load", *words]), **asked, **variables)
        assert (done.returncode, done.stderr) == (0, "")
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert completed("st") == ["status"]
    assert completed("run", ".", "--specprod", "k") == ["kibo"]
    assert completed("run", ".", "--stage", "target") == ["targetphot", "target"]
    own = tmp_path / "own.toml"
    own.write_text("[productions.kestrel]\nrelease = 'dr9'\n")
    assert completed("run", ".", "--specprod", "k", SPECPROD_CONFIG=str(own)) == ["kibo", "kestrel"]
    assert completed("run", ".", "--config", str(own), "--specprod", "k") == ["kibo", "kestrel"]
    own.write_text("not = TOML = at all")
    assert completed("run", ".", "--specprod", "k", SPECPROD_CONFIG=str(own)) == ["kibo"]
    source = run(_SPECPROD_LOAD_COMPLETE="bash_source")
    assert source.returncode == 0
    assert "complete -o nosort -F _specprod_load_completion specprod-load" in source.stdout


@pytest.mark.parametrize("name", ["load", "tile", "patch", "coeff", "batch"])
def test_main_of_the_documented_modules(name: str, tmp_path: Path) -> None:
    """An int for sys.exit, with the words of the process or with those that are given."""
    module, usage = f"specprod.{name}", {"load": "run", "coeff": "coeff-fix"}.get(name, name)
    code = f"import sys; from {module} import main; sys.exit(main())"
    words = [sys.executable, "-c", code]
    done = subprocess.run([*words, "--help"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"Usage: specprod-load {usage} ")
    assert subprocess.run([*words, "--wrong"], capture_output=True, check=False, cwd=tmp_path).returncode == 2
    main_of = importlib.import_module(module).main
    assert main_of(["--help"]) == 0
    assert main_of(["--wrong"]) == 2


def test_mains_run_the_commands(sample_root: Path, tmp_path: Path) -> None:
    from specprod import batch, coeff, load

    target = str(tmp_path / "a.db")
    words = ["--specprod", "sample"]
    assert load.main([str(sample_root), *words, "--database", target, "-q"]) == 0
    with contextlib.closing(sqlite3.connect(target)) as connection:
        assert connection.execute("SELECT count(*) FROM tile").fetchone()[0] > 0
    assert coeff.main(["extract", str(sample_root), *words, "--output", str(tmp_path)]) == 0
    assert (tmp_path / "zall-pix-sample-coeff-patch.fits").exists()
    assert batch.main(["a@b.org", str(tmp_path), "iron", "--job-dir", str(tmp_path / "jobs")]) == 0
    assert len(list((tmp_path / "jobs").glob("*.sh"))) == 6
    assert load.main([str(tmp_path), *words, "--database", target, "-q"]) == 1
