"""Batches in a real SLURM: one node on the loopback interface, for these tests alone."""

import contextlib
import os
import shutil
import socket
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import fitsio
import psycopg
import pytest

from conftest import IN_CI, unavailable
from sample_files import objects
from specprod.batch import BatchOptions, prepare_template, write_scripts
from specprod.configuration import load_configuration

ROOT = Path(__file__).resolve().parents[1]
SUBMIT = ROOT / "bin" / "submit-batch"
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue", "scontrol", "srun", "tcsh")
MISSING = [tool for tool in TOOLS if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None]

# Where CI is set the tests run, and fail.
pytestmark = [
    pytest.mark.skipif(
        bool(MISSING) and "CI" not in os.environ,
        reason=f"NOT TESTED IN SLURM: {', '.join(MISSING)} missing (packages slurm-wlm, munge, tcsh)",
    ),
    pytest.mark.skipif(
        os.geteuid() != 0 and "CI" not in os.environ, reason="NOT TESTED IN SLURM: its daemons need root"
    ),
]

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmdPort={ports[1]}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge.socket
CryptoType=crypto/munge
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
SlurmdParameters=config_overrides
SchedulerParameters=sched_interval=1,sched_min_interval=0,batch_sched_delay=0,defer_batch
SlurmctldPidFile={place}/slurmctld.pid
SlurmdPidFile={place}/slurmd.pid
SlurmctldLogFile={place}/slurmctld.log
SlurmdLogFile={place}/slurmd.log
StateSaveLocation={place}/state
SlurmdSpoolDir={place}/spool
Licenses=SCRATCH:10,cfs:10
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 Features=cpu State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


class CannotStartError(Exception):
    """A daemon of SLURM cannot run on this machine."""


class Slurm:
    """A SLURM of one node, its daemons children of this process."""

    def __init__(self, place):
        self.place = place
        self.daemons = []
        self.environ = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("SLURM_", "SPECPROD_"))},
            "SLURM_CONF": str(place / "slurm.conf"),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin:/sbin",
        }

    def start(self):
        host = socket.gethostname().partition(".")[0]
        with contextlib.ExitStack() as stack:
            sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
            for one in sockets:
                one.bind(("127.0.0.1", 0))
            ports = [one.getsockname()[1] for one in sockets]
        (self.place / "slurm.conf").write_text(CONFIGURATION.format(host=host, ports=ports, place=self.place))
        for directory in ("state", "spool"):
            (self.place / directory).mkdir()
        key = self.place / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        munge = [
            f"--{name}={self.place}/munge.{name.partition('-')[0]}" for name in ("socket", "pid-file", "seed-file")
        ]
        self._daemon("munged", "--foreground", "--force", f"--key-file={key}", *munge)
        self._started((self.place / "munge.socket").exists, "munged")
        self._daemon("slurmctld", "-D")
        self._daemon("slurmd", "-D", "-N", host)
        self._started(lambda: "State=IDLE" in self.ask("scontrol", "show", "node", check=False), "slurmd")

    def _daemon(self, *command):
        with (self.place / f"{command[0]}.out").open("w") as out:
            self.daemons.append(subprocess.Popen(command, env=self.environ, stdout=out, stderr=subprocess.STDOUT))

    def _started(self, ready, what):
        """Wait until a daemon is ready; one that ends instead cannot run here."""

        def ready_or_ended():
            if self.daemons[-1].poll() is not None:
                raise CannotStartError(f"{what} ended with {self.daemons[-1].returncode}: {self._last_words(what)}")
            return ready()

        self._until(ready_or_ended, what)

    def _last_words(self, what):
        logs = [log for log in (self.place / f"{what}.out", self.place / f"{what}.log") if log.exists()]
        lines = [line for log in logs for line in log.read_text().splitlines() if "error" in line.lower()]
        return lines[-1] if lines else "it says nothing"

    def _until(self, ready, what, seconds=30.0):
        end = time.monotonic() + seconds
        while not ready():
            if time.monotonic() > end:
                logs = "\n".join(f"{log.name}: {log.read_text()[-2000:]}" for log in self.place.glob("*.[lo][ou][gt]"))
                raise TimeoutError(f"{what} is not ready after {seconds:.0f} s\n{logs}")
            time.sleep(0.05)

    def stop(self):
        self.ask("scancel", "--user=root", check=False)
        for daemon in reversed(self.daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()

    def ask(self, *command, check=True, **variables):
        """Run a command in this SLURM, and return what it says."""
        environ = {**self.environ, **variables}
        done = subprocess.run(list(map(str, command)), capture_output=True, text=True, env=environ, check=False)
        if check and done.returncode != 0:
            raise AssertionError(f"{command} failed: {done.stderr}")
        return done.stdout

    def finish(self, seconds=60.0):
        """Wait until the queue is empty."""
        self._until(lambda: not self.ask("squeue", "--noheader").strip(), "the queue", seconds)

    def state(self, job):
        """State of a job, for example COMPLETED; of an array, those of its tasks."""
        words = self.ask("scontrol", "--oneliner", "show", "job", job).split()
        return [word.partition("=")[2] for word in words if word.startswith("JobState=")]


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    cluster = Slurm(tmp_path_factory.mktemp("slurm"))
    try:
        try:
            cluster.start()
        except CannotStartError as error:
            # slurmd needs cgroups, which a container may not have.
            unavailable(f"NOT TESTED IN SLURM: {error}", required=IN_CI)
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def job_dir(tmp_path):
    """A directory whose name holds what shells and SLURM could take for more than a name."""
    return tmp_path / "it's 100%x & $HOME `jobs`!"


def submit(slurm, job_dir, prefix, *words, **variables):
    """Call submit-batch, and return the jobs it made: number of each script."""
    lines = slurm.ask(SUBMIT, *words, job_dir / f"{prefix}.jobs", **variables).splitlines()
    return {script: job for job, script in map(str.split, lines)}


def configuration(**batch):
    """A site that asks for what the reference's site does, without its environment modules."""
    return load_configuration(environ={}).override({"batch.module": "", **batch}, "test")


def rows(database):
    """Number of rows in each table."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        names = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
        return {name: connection.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names}


STAGES = ["exposures", "photometry", "targetphot", "target", "redshift", "fiberassign"]


def test_a_failed_stage_stops_the_chain_and_a_second_submission_resumes(slurm, job_dir, tmp_path):
    root, database = tmp_path / "ro ot", tmp_path / "a.db"
    slurm.ask("specprod-load", "sample", root, "--tiles", "2", "--assigned", "12", "--potential", "30")
    slurm.ask("specprod-load", "run", root, "--specprod", "sample", "--database", tmp_path / "expected.db")
    options = BatchOptions(
        email="ada@example.org",
        root=root,
        specprod="sample",
        job_dir=job_dir,
        configuration=configuration(**{"database.url": str(database)}),
    )
    write_scripts(prepare_template(options), job_dir)
    # The second stage fails because a file of the production is cut short.
    (broken,) = sorted(root.glob("vac/**/tractorphot-*.fits"))[:1]
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])

    jobs = submit(slurm, job_dir, "load_specprod_db_sample")
    assert list(jobs) == [f"load_specprod_db_sample_{stage}.sh" for stage in STAGES]
    slurm.finish()
    states = [slurm.state(job) for job in jobs.values()]
    assert states == [["COMPLETED"], ["FAILED"], *[["CANCELLED"]] * 4], (slurm.place / "slurmctld.log").read_text()
    assert sorted(path.name for path in job_dir.glob("*.sh")) == sorted(list(jobs)[1:])
    assert (job_dir / "done" / "load_specprod_db_sample_exposures.sh").exists()
    log = (job_dir / f"load_specprod_db_sample_photometry.sh-{list(jobs.values())[1]}.log").read_text()
    assert broken.name in log
    assert rows(database)["exposure"] == rows(tmp_path / "expected.db")["exposure"] > 0

    broken.write_bytes(whole)
    jobs = submit(slurm, job_dir, "load_specprod_db_sample")
    assert list(jobs) == [f"load_specprod_db_sample_{stage}.sh" for stage in STAGES[1:]]
    slurm.finish()
    assert [slurm.state(job) for job in jobs.values()] == [["COMPLETED"]] * 5
    assert list(job_dir.glob("*.sh")) == []
    loaded = rows(database)
    assert {name: loaded[name] for name in ("photometry", "target", "zpix", "potential")} == {
        name: count
        for name, count in rows(tmp_path / "expected.db").items()
        if name in ("photometry", "target", "zpix", "potential")
    }

    # Scripts that are written and submitted once more must not delete what is there.
    write_scripts(prepare_template(options), job_dir)
    jobs = submit(slurm, job_dir, "load_specprod_db_sample", "--next", "1")
    assert list(jobs) == ["load_specprod_db_sample_exposures.sh"]
    slurm.finish()
    assert [slurm.state(job) for job in jobs.values()] == [["COMPLETED"]]
    # Only the run itself is new in the ledger.
    assert rows(database) == loaded | {"pipeline_execution": loaded["pipeline_execution"] + 1}


# Calls the load command, and notes when it began, when it ended, and with which words.
COMMAND = """\
#!/bin/bash
began=$(date +%s.%N)
"${LOAD}" "$@"
status=$?
echo "${began} $(date +%s.%N) $*" >> "${NOTES}/notes"
exit ${status}
"""


@pytest.fixture
def load_command(tmp_path, slurm):
    """Variables with which jobs find a load command that notes its calls, and the directory of the notes."""
    directory = tmp_path / "bin"
    directory.mkdir()
    command = directory / "specprod-load"
    command.write_text(COMMAND)
    command.chmod(0o755)
    path = slurm.environ["PATH"]
    return {"PATH": f"{directory}:{path}", "LOAD": shutil.which("specprod-load", path=path), "NOTES": str(tmp_path)}


@pytest.fixture
def nightly(tmp_path, slurm):
    """A production with six tiles, its file of tiles, and the numbers in its order."""
    root = tmp_path / "nightly"
    size = ("--tiles", "6", "--assigned", "6", "--potential", "12")
    slurm.ask("specprod-load", "sample", root, "--specprod", "daily", *size)
    directories = (root / "spectro/redux/daily/tiles/cumulative").iterdir()
    tileids = sorted(int(directory.name) for directory in directories)
    tiles = tmp_path / "tiles.csv"
    tiles.write_text("TILEID,LASTNIGHT,EFFTIME_SPEC\n" + "".join(f"{tile},20210101,9.0\n" for tile in tileids))
    return root, tiles, tileids


PRIMARY = "SELECT targetid, count(*) FILTER (WHERE zcat_primary) FROM daily.ztile GROUP BY targetid"


def ask(url, statement):
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


def counted(url):
    """Number of rows of each tile, by table."""
    tables = ("exposure", "ztile", "fiberassign", "potential")
    return {table: dict(ask(url, f"SELECT tileid, count(*) FROM daily.{table} GROUP BY tileid")) for table in tables}


def in_files(root, tileids):
    """Number of rows that tiles have in their files, sky left out."""
    redux = root / "spectro/redux/daily"
    exposures = fitsio.read(str(redux / "exposures-daily.fits"), ext="EXPOSURES")
    exposures = exposures[exposures["EFFTIME_SPEC"] > 0]
    found = {"exposure": {tile: int((exposures["TILEID"] == tile).sum()) for tile in tileids}}
    for table in ("ztile", "fiberassign", "potential"):
        found[table] = {}
        for tile in tileids:
            if table == "ztile":
                # Older pipelines have other names for the file and its table.
                tables = [fitsio.read(str(path)) for path in redux.glob(f"tiles/cumulative/{tile}/*/*-thru*.fits")]
            else:
                hdu = {"fiberassign": "FIBERASSIGN", "potential": "POTENTIAL_ASSIGNMENTS"}[table]
                (path,) = root.glob(f"target/**/fiberassign-{tile:06}.fits*")
                tables = [fitsio.read(str(path), ext=hdu)]
            found[table][tile] = sum(objects(one).size for one in tables)
    return found


def notes(variables):
    """Begin, end and words of the loads so far."""
    lines = Path(variables["NOTES"], "notes").read_text().splitlines()
    return [(float(began), float(ended), words) for began, ended, words in (line.split(" ", 2) for line in lines)]


@pytest.mark.parametrize("csh", [False, True], ids=["bash", "csh"])
def test_an_array_of_tiles(slurm, job_dir, postgres_url, load_command, nightly, csh):
    root, tiles, tileids = nightly
    options = BatchOptions(
        email="ada@example.org",
        root=root,
        specprod="daily",
        job_dir=job_dir,
        csh=csh,
        tiles_file=tiles,
        array=True,
        limit=2,
        configuration=configuration(**{"database.url": postgres_url}),
    )
    suffix = "csh" if csh else "sh"
    parts = (tileids[0], "array1", tileids[-1])
    first, array, last = (f"load_specprod_tile_daily_{part}.{suffix}" for part in parts)
    write_scripts(prepare_template(options), job_dir)
    # The fourth tile fails because its file is cut short.
    fourth = tileids[3]
    (broken,) = root.glob(f"target/**/fiberassign-{fourth:06}.fits*")
    whole = broken.read_bytes()
    broken.write_bytes(whole[: len(whole) // 2])

    jobs = submit(slurm, job_dir, "load_specprod_tile_daily", **load_command)
    assert list(jobs) == [first, array, last]
    again = subprocess.run(
        [SUBMIT, job_dir / "load_specprod_tile_daily.jobs"],
        capture_output=True,
        text=True,
        env=slurm.environ,
        check=False,
    )
    assert again.returncode == 1
    assert "is queued or running already" in again.stderr
    slurm.finish(120)
    loads = notes(load_command)
    tried = [int(words.split()[2]) for _, _, words in loads]
    assert tried[0] == tileids[0]
    assert sorted(tried) == tileids[:-1]
    assert [words.split()[2] for _, _, words in loads if "--overwrite" in words] == [str(tileids[0])]
    between = loads[1:]
    at_once = [sum(began <= moment < ended for began, ended, _ in between) for moment, _, _ in between]
    assert max(at_once) == 2
    assert sorted(path.name for path in job_dir.glob(f"*.{suffix}")) == sorted([array, last])
    (log,) = [path.read_text() for path in job_dir.glob("*.log") if broken.name in path.read_text()]
    assert f"tile {fourth}" in log
    assert counted(postgres_url) == in_files(root, [tile for tile in tileids[:-1] if tile != fourth])

    broken.write_bytes(whole)
    jobs = submit(slurm, job_dir, "load_specprod_tile_daily", **load_command)
    assert list(jobs) == [array, last]
    slurm.finish(120)
    assert [int(words.split()[2]) for _, _, words in notes(load_command)[len(loads) :]] == [fourth, tileids[-1]]
    assert notes(load_command)[-1][2].endswith(" --primary")
    assert counted(postgres_url) == in_files(root, tileids)
    assert {count for _, count in ask(postgres_url, PRIMARY)} == {1}
    assert list(job_dir.glob(f"*.{suffix}")) == []
    assert slurm.ask(SUBMIT, job_dir / "load_specprod_tile_daily.jobs") == ""


def test_the_next_tiles_only(slurm, job_dir, postgres_url, load_command, nightly):
    root, tiles, (first, second, third, *_) = nightly
    tiles.write_text(
        "TILEID,LASTNIGHT,EFFTIME_SPEC\n" + "".join(f"{tile},20210101,9.0\n" for tile in (third, first, second))
    )
    options = BatchOptions(
        email="ada@example.org",
        root=root,
        specprod="daily",
        job_dir=job_dir,
        tiles_file=tiles,
        configuration=configuration(**{"database.url": postgres_url, "batch.profile": "plain"}),
    )
    write_scripts(prepare_template(options), job_dir)
    jobs = submit(slurm, job_dir, "load_specprod_tile_daily", "--next", "2", **load_command)
    assert list(jobs) == [f"load_specprod_tile_daily_{tile}.sh" for tile in (third, first)]
    slurm.finish()
    assert counted(postgres_url) == in_files(root, [third, first])
    jobs = submit(slurm, job_dir, "load_specprod_tile_daily", "--next", "2", **load_command)
    assert list(jobs) == [f"load_specprod_tile_daily_{second}.sh"]
    slurm.finish()
    assert counted(postgres_url) == in_files(root, [third, first, second])
    common = f"--specprod daily --schema daily --database {postgres_url}"
    assert [words for _, _, words in notes(load_command)] == [
        f"tile {root} {third} {common} --overwrite --yes",
        f"tile {root} {first} {common}",
        f"tile {root} {second} {common} --primary",
    ]
