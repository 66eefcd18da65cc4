"""Contents of the scripts of a batch."""

import argparse
import os
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from specprod.batch import BatchOptions, prepare_template, select_tiles, write_scripts
from specprod.batch.shell import quote
from specprod.configuration import load_configuration
from specprod.errors import ConfigurationError, InputError, MissingFileError

ROOT = Path(__file__).resolve().parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
SERVER = "postgresql://desi_admin@specprod-db.desi.lbl.gov/desi"
TILES = """\
TILEID,LASTNIGHT,EFFTIME_SPEC
1,20201213,100.0
2,20201214,100.0
3,20210101,0.0
4,20210102,
7,20210103,0.1
5,20220104,3000
6,20220105,nan
8,20220106,3000
"""

EXPOSURES = """\
#!/bin/bash
#SBATCH --qos=regular
#SBATCH --constraint=cpu
#SBATCH --nodes=1
#SBATCH --time=00:10:00
#SBATCH --job-name=load_specprod_db_iron_exposures.sh
#SBATCH --output=/jobs/%x-%j.log
#SBATCH --licenses=SCRATCH,cfs
#SBATCH --account=desi
#SBATCH --mail-type=end,fail
#SBATCH --mail-user=ada@example.org

module load specprod/VERSION || exit 1
export DESI_ROOT=/data/desi
export SPECPROD=iron
job_dir=/jobs
script=load_specprod_db_iron_exposures.sh
mkdir -p "${job_dir}/done" || exit 1
marks="${job_dir}/done/iron.ab8eefa6"
overwrite=(--overwrite --yes)
if [ -e "${marks}/overwritten" ]; then
    overwrite=()
else
    rm -rf "${marks}"
fi
srun --ntasks=1 specprod-load run "${DESI_ROOT}" --specprod "${SPECPROD}" --schema "${SPECPROD}" \
--database postgresql://desi_admin@specprod-db.desi.lbl.gov/desi --stage exposures "${overwrite[@]}"
status=$?
if [ ${status} -eq 0 ]; then
    mkdir -p "${marks}" && echo "${script} ${SLURM_JOB_ID}" > "${marks}/overwritten"
    mv -f "${job_dir}/${script}" "${job_dir}/done/"
fi
exit ${status}
"""

FIBERASSIGN_CSH = """\
#!/bin/csh
#SBATCH --qos=regular
#SBATCH --constraint=cpu
#SBATCH --nodes=1
#SBATCH --time=12:00:00
#SBATCH --job-name=load_specprod_db_mine_fiberassign.csh
#SBATCH --output=/jobs/%x-%j.log
#SBATCH --licenses=SCRATCH,cfs
#SBATCH --account=desi
#SBATCH --mail-type=end,fail
#SBATCH --mail-user=ada@example.org

module load specprod/VERSION
if ( $status ) exit 1
setenv DESI_ROOT /data/desi
setenv SPECPROD iron
set job_dir = /jobs
set script = load_specprod_db_mine_fiberassign.csh
mkdir -p $job_dir:q/done || exit 1
srun --ntasks=1 specprod-load run $DESI_ROOT:q --specprod $SPECPROD:q --schema mine \
--database postgresql://desi_admin@specprod-db.desi.lbl.gov/desi --stage fiberassign
set result = $status
if ( $result == 0 ) then
    mv -f $job_dir:q/$script:q $job_dir:q/done/
endif
exit $result
"""


def batch(**options):
    """Options of a batch, in a configuration of defaults."""
    changes = options.pop("changes", {})
    return BatchOptions(
        **{
            "email": "ada@example.org",
            "root": "/data/desi",
            "specprod": "iron",
            "job_dir": "/jobs",
            "configuration": load_configuration(environ={}).override(changes, "test"),
            **options,
        }
    )


@pytest.fixture
def tiles_file(tmp_path):
    path = tmp_path / "tiles.csv"
    path.write_text(TILES)
    return path


def test_stages_of_a_production():
    scripts = prepare_template(batch())
    stages = ["exposures", "photometry", "targetphot", "target", "redshift", "fiberassign"]
    names = [f"load_specprod_db_iron_{stage}.sh" for stage in stages]
    assert list(scripts) == [*names, "load_specprod_db_iron.jobs"]
    assert scripts["load_specprod_db_iron.jobs"] == "".join(f"{name}\n" for name in names)
    assert scripts[names[0]] == EXPOSURES.replace("VERSION", VERSION)
    times = [line for name in names for line in scripts[name].splitlines() if "--time" in line]
    assert times == [f"#SBATCH --time={time}" for time in ("00:10:00", "04:00:00", *["12:00:00"] * 4)]
    assert [name for name in names if "overwrite" in scripts[name]] == names[:1]
    for name, stage in zip(names, stages, strict=True):
        assert f" --stage {stage}" in scripts[name]


def test_csh_and_a_schema():
    scripts = prepare_template(batch(csh=True, schema="mine"))
    assert scripts["load_specprod_db_mine_fiberassign.csh"] == FIBERASSIGN_CSH.replace("VERSION", VERSION)
    assert (
        "set overwrite = (--overwrite --yes)\nif ( -e $marks:q/overwritten ) then\n    set overwrite = ()\n"
        in (scripts["load_specprod_db_mine_exposures.csh"])
    )


def test_a_namespace_as_options(monkeypatch, tmp_path):
    for variable in ("SPECPROD_CONFIG", "SPECPROD_DATABASE", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    options = argparse.Namespace(
        email="ada@example.org", root="/data/desi", specprod="iron", job_dir="/jobs", csh=False, other="ignored"
    )
    assert prepare_template(options) == prepare_template(batch())
    del options.job_dir
    assert f"job_dir={tmp_path}/Documents/Jobs\n" in next(iter(prepare_template(options).values()))


def test_a_site_of_ones_own():
    site = {
        "account": "",
        "qos": "",
        "constraint": "",
        "licenses": "",
        "module": "",
        "mail_type": "",
        "partition": "long",
        "launcher": "srun --label -n 1",
        "directives": ["--mem=8G"],
    }
    changes = {f"batch.{key}": value for key, value in site.items()}
    lines = prepare_template(batch(changes=changes))["load_specprod_db_iron_target.sh"].splitlines()
    assert lines[1:8] == [
        "#SBATCH --partition=long",
        "#SBATCH --nodes=1",
        "#SBATCH --time=12:00:00",
        "#SBATCH --job-name=load_specprod_db_iron_target.sh",
        "#SBATCH --output=/jobs/%x-%j.log",
        "#SBATCH --mem=8G",
        "",
    ]
    assert lines[8] == "export DESI_ROOT=/data/desi"
    assert any(line.startswith("srun --label -n 1 specprod-load run ") for line in lines)


def test_the_choice_of_tiles(tiles_file):
    assert select_tiles(tiles_file) == [(2, 20201214), (7, 20210103), (5, 20220104), (8, 20220106)]


def test_a_script_a_tile(tiles_file):
    scripts = prepare_template(batch(specprod="daily", tiles_file=tiles_file))
    names = [f"load_specprod_tile_daily_{tileid}.sh" for tileid in (2, 7, 5, 8)]
    assert list(scripts) == [*names, "load_specprod_tile_daily.jobs"]
    loads = [line for name in names for line in scripts[name].splitlines() if "specprod-load tile" in line]
    common = f'--specprod "${{SPECPROD}}" --schema "${{SPECPROD}}" --database {SERVER}'
    assert loads == [
        f'srun --ntasks=1 specprod-load tile "${{DESI_ROOT}}" 2 {common} "${{overwrite[@]}}"',
        f'srun --ntasks=1 specprod-load tile "${{DESI_ROOT}}" 7 {common}',
        f'srun --ntasks=1 specprod-load tile "${{DESI_ROOT}}" 5 {common}',
        f'srun --ntasks=1 specprod-load tile "${{DESI_ROOT}}" 8 {common} --primary',
    ]
    times = [line for name in names for line in scripts[name].splitlines() if "--time" in line]
    assert times == [f"#SBATCH --time={time}" for time in ("00:30:00", "00:30:00", "00:30:00", "06:00:00")]


def test_one_tile_is_the_first_and_the_last(tmp_path):
    path = tmp_path / "tiles.csv"
    path.write_text("TILEID,LASTNIGHT,EFFTIME_SPEC\n80613,20210324,3027.9\n")
    for array in (False, True):
        scripts = prepare_template(batch(tiles_file=path, array=array))
        assert list(scripts) == ["load_specprod_tile_iron_80613.sh", "load_specprod_tile_iron.jobs"]
        assert ' --primary "${overwrite[@]}"\n' in scripts["load_specprod_tile_iron_80613.sh"]


def test_tiles_without_overwriting(tiles_file):
    assert "overwrit" not in "".join(prepare_template(batch(tiles_file=tiles_file, overwrite=False)).values())


@pytest.mark.parametrize("array", [False, True])
def test_patched_files_are_passed_on(tiles_file, array):
    exposures = tiles_file.with_name("exposures patched.fits")
    scripts = prepare_template(batch(specprod="daily", patch_tiles=(tiles_file, exposures), array=array))
    for name, text in scripts.items():
        if not name.endswith(".jobs"):
            assert f" --tiles-file {tiles_file} --exposures-file '{exposures}'" in text


def test_an_array(tiles_file):
    scripts = prepare_template(batch(specprod="daily", tiles_file=tiles_file, array=True, limit=3))
    first, array, last = (f"load_specprod_tile_daily_{part}.sh" for part in (2, "array1", 8))
    assert scripts["load_specprod_tile_daily.jobs"] == (
        f"{first}\n{array} daily.ab8eefa6 7_20210103 5_20220104\n{last}\n"
    )
    assert "#SBATCH --array=1-2%3\n" in scripts[array]
    assert "#SBATCH --output=/jobs/%x-%A_%a.log\n" in scripts[array]
    assert "tiles=(\n7_20210103\n5_20220104\n)\n" in scripts[array]
    assert "--overwrite" not in scripts[array]
    assert "--primary" not in scripts[array]
    assert "--overwrite --yes" in scripts[first]
    assert " --primary\n" in scripts[last]


def test_many_tiles_are_several_arrays(tmp_path):
    path = tmp_path / "tiles.csv"
    path.write_text("TILEID,LASTNIGHT,EFFTIME_SPEC\n" + "".join(f"{tile},20220101,1.0\n" for tile in range(1, 2504)))
    scripts = prepare_template(batch(specprod="daily", tiles_file=path, array=True))
    assert list(scripts) == [
        *(f"load_specprod_tile_daily_{part}.sh" for part in (1, "array1", "array2", "array3", 2503)),
        "load_specprod_tile_daily.jobs",
    ]
    arrays = [line for text in scripts.values() for line in text.splitlines() if "SBATCH --array" in line]
    assert arrays == ["#SBATCH --array=1-1000%8", "#SBATCH --array=1-1000%8", "#SBATCH --array=1-501%8"]


def test_a_file_takes_one_tile_at_a_time(tiles_file):
    options = batch(specprod="daily", tiles_file=tiles_file, array=True, changes={"database.url": "/data/a.db"})
    assert "#SBATCH --array=1-2%1\n" in prepare_template(options)["load_specprod_tile_daily_array1.sh"]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, SERVER),
        ({"changes": {"database.hostname": "here", "database.username": "me"}}, "postgresql://me@here/desi"),
        ({"changes": {"database.url": "postgresql:///x?service=y"}}, "'postgresql:///x?service=y'"),
        ({"changes": {"database.url": "/data/a b.db"}}, "'/data/a b.db'"),
        ({"changes": {"database.url": "a.db"}}, f"{Path.cwd()}/a.db"),
    ],
)
def test_the_database_of_the_jobs(options, expected):
    assert f" --database {expected} " in prepare_template(batch(**options))["load_specprod_db_iron_target.sh"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"email": "ada"}, "EMAIL: expected an address such as"),
        ({"email": "ada@example.org\n#SBATCH --wrap=x"}, "EMAIL: expected text on one line"),
        ({"root": "/a\nb"}, "ROOT: expected text on one line"),
        ({"job_dir": "/a\\b"}, "--job-dir: SLURM cannot name logs"),
        ({"specprod": "himalayas"}, "unknown production 'himalayas'"),
        ({"specprod": "../iron"}, "SPECPROD: expected letters, digits"),
        ({"schema": "a b"}, "schema: expected letters, digits"),
        ({"array": True}, "--array and --limit are for tiles"),
        ({"limit": 3, "tiles_file": "a.csv"}, "--limit is for --array"),
        ({"limit": 0, "tiles_file": "a.csv", "array": True}, "--limit: expected a whole number of at least 1, got 0"),
        ({"patch_tiles": ("a.csv",)}, "--patch-tiles: expected a tiles file and an exposures file"),
        ({"specprod": "daily"}, "daily is loaded tile by tile: give --tiles-file"),
        ({"changes": {"batch.profile": "moon"}}, "no site 'moon'"),
    ],
)
def test_wrong_options(options, message):
    with pytest.raises(ConfigurationError) as caught:
        prepare_template(batch(**options))
    assert str(caught.value).startswith(message) or f": {message}" in str(caught.value)


def test_a_password_never_gets_into_a_script():
    with pytest.raises(ConfigurationError, match="would stand in the scripts") as caught:
        prepare_template(batch(changes={"database.url": "postgresql://me:geheim@here/desi"}))
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TILEID,LASTNIGHT\n1,20220101\n", "column EFFTIME_SPEC: required"),
        ("TILEID,LASTNIGHT,EFFTIME_SPEC\n1,20200101,1.0\n", "no tile with LASTNIGHT >= 20201214"),
        ("TILEID,LASTNIGHT,EFFTIME_SPEC\n9,20220101,1.0\n9,20220102,1.0\n", "column TILEID: .* more than once: 9"),
    ],
)
def test_wrong_tiles_files(tmp_path, text, message):
    path = tmp_path / "tiles.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        prepare_template(batch(tiles_file=path))
    assert str(caught.value).startswith(str(path))


def test_an_absent_tiles_file(tmp_path):
    with pytest.raises(MissingFileError):
        prepare_template(batch(tiles_file=tmp_path / "absent.fits"))


# Where CI is set the tests run, and fail.
needs_tcsh = pytest.mark.skipif(
    shutil.which("tcsh") is None and "CI" not in os.environ, reason="CSH SCRIPTS NOT TESTED: tcsh is not installed"
)
SHELLS = pytest.mark.parametrize("csh", [False, pytest.param(True, marks=needs_tcsh)], ids=["bash", "csh"])

# Everything that a shell could take for more than text.
HARD = [
    "a b",
    "it's",
    'say "x"',
    "$HOME",
    "`id`",
    "a!b",
    "!!",
    "a\\!b",
    "a\\b",
    "~",
    "*",
    "{a,b}",
    "#a",
    "",
    "-n",
    "a;b",
    "&",
]


@SHELLS
@given(texts=st.lists(st.text(st.characters(codec="ascii", exclude_categories=["Cc"])), max_size=30))
@settings(max_examples=15, deadline=None)
def test_a_quoted_word_is_the_word(csh, texts):
    words = [f"<{text}>" for text in texts] + HARD
    script = "\n".join(f"/usr/bin/printf '%s\\n' {quote(word, csh=csh)}" for word in words)
    shell = ["tcsh", "-f"] if csh else ["bash"]
    done = subprocess.run([*shell, "/dev/stdin"], input=script, capture_output=True, text=True, check=True)
    assert done.stdout == "".join(f"{word}\n" for word in words)


@SHELLS
@pytest.mark.parametrize("shape", ["stages", "tiles", "array"])
def test_the_shells_accept_the_scripts(tmp_path, tiles_file, csh, shape):
    job_dir = tmp_path / "it's $x !y `z`"
    tiles = {} if shape == "stages" else {"tiles_file": tiles_file, "array": shape == "array"}
    options = batch(
        csh=csh, job_dir=job_dir, root="/a 'b' !c", config=tmp_path / "my config.toml", public=True, **tiles
    )
    paths = write_scripts(prepare_template(options), job_dir)
    scripts = [path for path in paths if path.suffix != ".jobs"]
    assert len(scripts) == {"stages": 6, "tiles": 4, "array": 3}[shape]
    for path in scripts:
        done = subprocess.run(["tcsh" if csh else "bash", "-n", path], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, "")


def test_written_scripts(tmp_path):
    job_dir = tmp_path / "a" / "b"
    paths = write_scripts({"x.sh": "1\n", "x.jobs": "x.sh\n"}, job_dir)
    assert [(path.name, path.read_text(), path.stat().st_mode & 0o777) for path in paths] == [
        ("x.sh", "1\n", 0o755),
        ("x.jobs", "x.sh\n", 0o644),
    ]
    assert sorted(path.name for path in job_dir.iterdir()) == ["done", "x.jobs", "x.sh"]
    write_scripts({"x.sh": "2\n"}, job_dir)
    assert paths[0].read_text() == "2\n"


def test_a_place_that_cannot_be_written(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written: Not a directory"):
        write_scripts({"x.sh": ""}, tmp_path / "a" / "b")
