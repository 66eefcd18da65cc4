"""specprod-load batch, and submit-batch in its test mode."""

import os
import shutil
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from conftest import IN_CI, unavailable
from specprod.batch import write_scripts
from specprod.errors import ConfigurationError

ROOT = Path(__file__).resolve().parents[1]
DAEMONS = f"{os.environ['PATH']}:/usr/sbin:/sbin"
TILES = "TILEID,LASTNIGHT,EFFTIME_SPEC\n" + "".join(f"{tile},20220101,9.0\n" for tile in range(11, 20))


@pytest.fixture
def run(tmp_path):
    """Run a command in an environment without configuration of its own."""

    def run(*words):
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("SPECPROD_", "XDG_"))}
        words = list(map(str, words))
        command = [sys.executable, "-m", "specprod.cli.main", *words] if words[0] == "batch" else words
        return subprocess.run(
            command, capture_output=True, text=True, cwd=tmp_path, env={**environ, "HOME": str(tmp_path)}, check=False
        )

    return run


@pytest.fixture
def submit(run):
    return lambda *words: run(ROOT / "bin" / "submit-batch", *words)


def test_scripts_of_a_production(run, submit, tmp_path):
    done = run("batch", "ada@example.org", "/data", "iron")
    assert (done.returncode, done.stderr) == (
        0,
        f"Next: submit-batch {tmp_path}/Documents/Jobs/load_specprod_db_iron.jobs\n",
    )
    paths = list(map(Path, done.stdout.splitlines()))
    assert len(paths) == 7
    assert all(path.is_file() for path in paths)
    calls = submit("--test", paths[-1]).stdout.splitlines()
    head = "'sbatch' '--parsable' '--kill-on-invalid-dep=yes'"
    scripts = [f"'{tmp_path}/Documents/Jobs/load_specprod_db_iron_{stage}.sh'" for stage in STAGES]
    assert calls == [
        f"{head} {scripts[0]}",
        *(f"{head} '--dependency=afterok:JOB{number}' {scripts[number]}" for number in range(1, 6)),
    ]


STAGES = ["exposures", "photometry", "targetphot", "target", "redshift", "fiberassign"]


def test_what_is_done_is_left_out(run, submit, tmp_path):
    run("batch", "ada@example.org", "/data", "iron", "--job-dir", "jobs")
    for stage in STAGES[:4]:
        (tmp_path / f"jobs/load_specprod_db_iron_{stage}.sh").rename(tmp_path / f"jobs/done/{stage}")
    calls = submit("-t", "jobs/load_specprod_db_iron.jobs").stdout.splitlines()
    assert [call.split("_")[-1].strip("'") for call in calls] == ["redshift.sh", "fiberassign.sh"]
    assert "--dependency" not in calls[0]
    for stage in STAGES[4:]:
        (tmp_path / f"jobs/load_specprod_db_iron_{stage}.sh").unlink()
    done = submit("-t", "jobs/load_specprod_db_iron.jobs")
    assert (done.returncode, done.stdout, done.stderr) == (
        0,
        "",
        "submit-batch: all of load_specprod_db_iron is done\n",
    )


def test_tiles_of_an_array_that_are_done_are_left_out(run, submit, tmp_path):
    (tmp_path / "t.csv").write_text(TILES)
    words = ["--tiles-file", "t.csv", "--array", "--limit", 2, "--job-dir", "jobs", "--hostname", "here"]
    assert run("batch", "ada@example.org", "/data", "daily", *words).returncode == 0
    jobs = tmp_path / "jobs/load_specprod_tile_daily.jobs"
    marks = tmp_path / "jobs/done" / jobs.read_text().splitlines()[1].split()[1]

    def arrays(*words):
        lines = submit("-t", *words, jobs).stdout.splitlines()
        return [next((word for word in line.split() if "--array" in word), line.split("/")[-1]) for line in lines]

    marks.mkdir()
    (marks / "13_20220101").touch()
    # The first tile is still to come, and overwrites: no mark counts.
    first, last = "load_specprod_tile_daily_11.sh'", "load_specprod_tile_daily_19.sh'"
    assert arrays() == [first, "'--array=1-7%2'", last]
    (tmp_path / "jobs/load_specprod_tile_daily_11.sh").unlink()
    assert arrays() == ["'--array=1,3-7%2'", last]
    assert arrays("--next", 3) == ["'--array=1,3-4%2'"]
    assert arrays("--next", 6) == ["'--array=1,3-7%2'"]
    assert arrays("--next", 7) == ["'--array=1,3-7%2'", last]
    for tile in (12, 14, 16, 17):
        (marks / f"{tile}_20220101").touch()
    assert arrays() == ["'--array=4,7%2'", last]
    for tile in (15, 18):
        (marks / f"{tile}_20220101").touch()
    assert arrays() == [last]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "FILE.jobs is missing; see --help"),
        (["--nxt"], "unknown option --nxt; see --help"),
        (["--next", "0", "a.jobs"], "--next: expected a whole number of at least 1, got '0'"),
        (["-n"], "-n: expected a whole number of at least 1, got ''"),
        (["a.sh"], "a.sh: expected a file whose name ends in .jobs"),
        (["a.jobs"], "a.jobs: cannot be read"),
        (["a.jobs", "b.jobs"], "one FILE.jobs at a time; see --help"),
    ],
)
def test_wrong_arguments_of_submit_batch(submit, words, message):
    done = submit("--test", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"submit-batch: {message}\n")


def test_help(run, submit):
    assert "Example: submit-batch --test" in submit("--help").stdout
    assert "Examples:\n    specprod-load batch" in run("batch", "--help").stdout


def test_a_note_where_nothing_is_overwritten_again(run, tmp_path):
    words = ["batch", "ada@example.org", "/data", "iron", "--job-dir", "jobs"]
    run(*words)
    marks = tmp_path / "jobs/done/iron.ab8eefa6"
    marks.mkdir()
    (marks / "overwritten").touch()
    assert run(*words).stderr.splitlines()[0] == (
        f"Nothing will be overwritten, that was done before; to start over remove {marks}"
    )


def test_dry_run(run, tmp_path):
    done = run("batch", "ada@example.org", "/data", "iron", "--dry-run", "--profile", "plain")
    assert done.stdout.count("#!/bin/bash\n") == 6
    assert "==> load_specprod_db_iron_target.sh <==\n#!/bin/bash\n#SBATCH --nodes=1\n" in done.stdout
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["daily"], "daily is loaded tile by tile: give --tiles-file or --patch-tiles"),
        (["iron", "--profile", "moon"], "batch.profile: no site 'moon' (option --profile); known are nersc, plain"),
        (["iron", "--tiles-file", "absent.csv"], "absent.csv: no such file"),
        (["iron", "--database", "postgresql://a:geheim@b/c"], "the password of postgresql://a:***@b/c would stand"),
    ],
)
def test_wrong_arguments(run, words, message):
    done = run("batch", "ada@example.org", "/data", *words)
    assert done.returncode == (1 if "absent" in message else 2)
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert "geheim" not in done.stderr


def test_submit_batch_comes_with_the_package():
    """The script itself, and not a second one that could differ."""
    installed = [file for file in distribution("specprod").files if file.name == "submit-batch"]
    assert [file.locate().read_text() for file in installed] == [(ROOT / "bin/submit-batch").read_text()]
    done = subprocess.run([installed[0].locate(), "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("Usage: submit-batch ")


def test_scripts_appear_together(tmp_path):
    """Where one cannot be put into its place, none of them is."""
    write_scripts({"a.sh": "1\n"}, tmp_path)
    (tmp_path / "b.sh").mkdir()
    with pytest.raises(ConfigurationError, match=r"b\.sh is a directory"):
        write_scripts({"a.sh": "2\n", "b.sh": "2\n"}, tmp_path)
    assert (tmp_path / "a.sh").read_text() == "1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.sh", "b.sh", "done"]


@pytest.mark.parametrize("environ", [{}, {"CI": "1"}], ids=["here", "CI"])
def test_slurm_that_cannot_start_is_skipped_with_the_reason(tmp_path, environ):
    """As in a container without cgroups; where everything ought to run, it is a failure."""
    if missing := [tool for tool in ("munged", "slurmctld", "tcsh") if shutil.which(tool, path=DAEMONS) is None]:
        unavailable(f"{', '.join(missing)} missing", required=IN_CI)
    daemon = tmp_path / "slurmd"
    daemon.write_text("#!/bin/sh\necho 'slurmd: error: cannot find cgroup plugin for cgroup/v2' >&2\nexit 1\n")
    daemon.chmod(0o755)
    inherited = {key: value for key, value in os.environ.items() if key != "CI" and not key.startswith("PYTEST")}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", "next_tiles"]
    done = subprocess.run(
        [*words, str(ROOT / "tests/test_batch_slurm.py")],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**inherited, **environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        check=False,
    )
    assert "NOT TESTED IN SLURM: slurmd ended with 1: slurmd: error: cannot find cgroup plugin" in done.stdout
    assert ("1 error" if environ else "1 skipped") in done.stdout.splitlines()[-1]
    assert done.returncode == (1 if environ else 0)
