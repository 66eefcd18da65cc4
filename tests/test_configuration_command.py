"""specprod-load config."""

import json
import os
import subprocess
import sys

import pytest


@pytest.fixture
def run(tmp_path):
    """Run the command in an environment without configuration of its own."""

    def run(*words, **variables):
        environ = {key: value for key, value in os.environ.items() if not key.startswith(("SPECPROD_", "XDG_"))}
        return subprocess.run(
            [sys.executable, "-m", "specprod.cli.main", "config", *map(str, words)],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**environ, "HOME": str(tmp_path), **variables},
            check=False,
        )

    return run


def test_values_and_origins(run, tmp_path):
    path = tmp_path / "a.toml"
    path.write_text("[loading]\nchunksize = 7\n[batch]\ndirectives = ['--mem=8G']")
    lines = run("--config", path, "loading", "batch.directives").stdout.splitlines()
    assert [line.split() for line in lines] == [
        ["loading.chunksize", "7", str(path)],
        ["loading.workers", "2", "built-in", "default"],
        ["loading.roots", "[]", "built-in", "default"],
        ["batch.directives", '["--mem=8G"]', str(path)],
    ]


def test_json(run):
    done = run("--json", "productions.fuji", "database.url", SPECPROD_DATABASE="postgresql://a:geheim@b/c")
    assert done.returncode == 0
    assert json.loads(done.stdout) == [
        {
            "key": "database.url",
            "value": "postgresql://a:***@b/c",
            "origin": "environment variable SPECPROD_DATABASE",
        },
        {"key": "productions.fuji.photometry", "value": "v2.1", "origin": "built-in default"},
        {"key": "productions.fuji.redshift", "value": "zcat/v1.0", "origin": "built-in default"},
        {"key": "productions.fuji.release", "value": "edr", "origin": "built-in default"},
        {"key": "productions.fuji.target_summary", "value": True, "origin": "built-in default"},
        {"key": "productions.fuji.tiles", "value": "0.5", "origin": "built-in default"},
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["loadin"], "specprod-load: no key loadin and none that begins with it; did you mean loading?\n"),
        (["--config", "absent.toml"], "specprod-load: absent.toml: cannot be read: No such file or directory\n"),
    ],
)
def test_wrong_arguments(run, words, message):
    done = run(*words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", message)
