"""Values, their order of precedence and their origins."""

import dataclasses
import inspect
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from specprod.coeff import extract, load_patch
from specprod.configuration import KEYS, Configuration, Production, known_names, load_configuration, mask_password
from specprod.configuration.passwords import mask_command, mask_data
from specprod.database.failures import Retries
from specprod.errors import ConfigurationError
from specprod.load import load_file
from specprod.loading.loader import Loader

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def write(tmp_path):
    """Write a file of that name and text below a temporary directory."""

    def write(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return write


# From the table of public productions.
PRODUCTIONS = [
    ("fuji", "edr", "v2.1", True, "zcat/v1.0", "0.5"),
    ("guadalupe", "dr1", "v2.1", False, "patch/v1", "1.1"),
    ("iron", "dr1", "v1.1", False, "patch/v1", "1.1"),
    ("jura", "dr2", "v1.2", False, "patch/v1", "2.0"),
    ("kibo", "dr2", "v1.1", False, "patch/v1.1", "2.0"),
    ("loa", "dr2", "v1.0", False, "patch/v1", "2.0"),
    ("daily", "daily", "computed", False, "daily", "trunk"),
    ("sample", "sample", "v1.0", False, "base", "1.0"),
]


@pytest.mark.parametrize("values", PRODUCTIONS, ids=lambda values: values[0])
def test_named_productions(values):
    assert load_configuration(environ={}).production(values[0]) == Production(*values)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("database.url", "specprod.db"),
        ("database.hostname", "specprod-db.desi.lbl.gov"),
        ("database.username", "desi_admin"),
        ("database.schema", None),
        ("loading.chunksize", 25000),
        ("loading.workers", 2),
        ("roles.collaboration", "desi"),
        ("roles.public", "desi_public"),
        ("results.storage", "specprod.results.orm.OrmPipelineResultsStorage"),
    ],
)
def test_defaults(name, value):
    configuration = load_configuration(environ={})
    assert configuration.get(name) == value
    assert configuration.origin(name) == "built-in default"


def test_later_sources_go_before_earlier_ones(write, tmp_path):
    environ = {"HOME": str(tmp_path)}
    seen = [load_configuration(environ=environ).get("loading.chunksize")]
    user = write(".config/specprod/specprod.toml", '[loading]\nchunksize = 1\n[database]\nurl = "user.db"')
    seen.append(load_configuration(environ=environ).get("loading.chunksize"))
    site = write("site.toml", "[loading]\nchunksize = 2")
    environ["SPECPROD_CONFIG"] = str(site)
    seen.append(load_configuration(environ=environ).get("loading.chunksize"))
    given_file = write("given.toml", "[loading]\nchunksize = 3")
    configuration = load_configuration(given_file, environ=environ)
    seen.append(configuration.get("loading.chunksize"))
    assert configuration.origin("loading.chunksize") == str(given_file)
    assert configuration.origin("database.url") == str(user)
    seen.append(configuration.override({"loading.chunksize": 4}, "option --chunksize").get("loading.chunksize"))
    assert seen == [25000, 1, 2, 3, 4]
    environ["SPECPROD_DATABASE"] = "environment.db"
    configuration = load_configuration(given_file, environ=environ)
    assert configuration.get("database.url") == "environment.db"
    assert configuration.origin("database.url") == "environment variable SPECPROD_DATABASE"


def test_xdg_directory_goes_before_home(write, tmp_path):
    write(".config/specprod/specprod.toml", "[loading]\nchunksize = 1")
    path = write("xdg/specprod/specprod.toml", "[loading]\nchunksize = 2")
    configuration = load_configuration(environ={"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "xdg")})
    assert configuration.origin("loading.chunksize") == str(path)


def test_override_leaves_the_original_and_skips_options_not_given():
    before = load_configuration(environ={})
    after = before.override({"database.url": "a.db", "database.schema": None}, origin="option --database")
    assert (before.get("database.url"), after.get("database.url")) == ("specprod.db", "a.db")
    assert after.origin("database.url") == "option --database"
    assert after.origin("database.schema") == "built-in default"
    assert isinstance(after, Configuration)
    assert before != after
    assert before == load_configuration(environ={})


@pytest.mark.parametrize(
    ("options", "environ", "expected"),
    [
        ({}, {}, "specprod.db"),
        ({}, {"SPECPROD_DATABASE": ""}, "specprod.db"),
        ({}, {"SPECPROD_DATABASE": "postgresql://a/b"}, "postgresql://a/b"),
        ({"database.hostname": "server"}, {}, "postgresql://desi_admin@server/desi"),
        ({"database.hostname": "server"}, {"SPECPROD_DATABASE": "a.db"}, "postgresql://desi_admin@server/desi"),
        ({"database.hostname": "server", "database.url": "b.db"}, {}, "b.db"),
        ({"database.hostname": "server", "database.username": "me@home"}, {}, "postgresql://me%40home@server/desi"),
        ({"database.username": "me"}, {}, "specprod.db"),
    ],
)
def test_choice_of_the_database(options, environ, expected):
    assert load_configuration(environ=environ).override(options, "option").database() == expected


def test_a_hostname_in_a_file_is_overruled_by_the_environment(write):
    path = write("a.toml", '[database]\nhostname = "server"')
    assert load_configuration(path, environ={}).database() == "postgresql://desi_admin@server/desi"
    assert load_configuration(path, environ={"SPECPROD_DATABASE": "a.db"}).database() == "a.db"


def test_a_production_of_ones_own(write):
    text = '[productions.mine]\nrelease="r"\nphotometry="p"\ntarget_summary=true\nredshift="base"\ntiles="t"\n'
    configuration = load_configuration(write("a.toml", text + '[productions.iron]\ntiles="9.9"'), environ={})
    assert configuration.production("mine") == Production("mine", "r", "p", True, "base", "t")
    assert configuration.production("iron") == Production("iron", "dr1", "v1.1", False, "patch/v1", "9.9")


def test_values_of_one_production_alone(write):
    path = write("a.toml", '[loading]\nchunksize = 5\n[productions.iron]\nchunksize = 7\nhostname = "own"')
    iron = load_configuration(path, environ={}).for_production("iron")
    assert (iron.get("loading.chunksize"), iron.database()) == (7, "postgresql://desi_admin@own/desi")
    assert load_configuration(path, environ={}).for_production("loa").get("loading.chunksize") == 5
    option = load_configuration(path, environ={}).override({"loading.chunksize": 9}, "option --chunksize")
    assert option.for_production("iron").get("loading.chunksize") == 9


def test_unknown_production_names_the_known_ones():
    with pytest.raises(ConfigurationError, match=r"'himalayas'.*fuji, guadalupe, iron, jura, kibo, loa, daily"):
        load_configuration(environ={}).production("himalayas")


def test_incomplete_production_names_what_is_missing_and_the_file(write):
    path = write("a.toml", '[productions.mine]\nrelease = "r"')
    with pytest.raises(ConfigurationError, match=r"mine lacks photometry, target_summary, redshift, tiles; .*a\.toml"):
        load_configuration(path, environ={}).production("mine")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "[loading]\nchunk = 3", "unknown key loading.chunk; did you mean loading.chunksize?"),
        ("a.toml", "[loading]\nchunksize = '3'", "loading.chunksize: expected a whole number of at least 1, got '3'"),
        ("a.toml", "[loading]\nchunksize = true", "loading.chunksize: expected a whole number of at least 1, got True"),
        ("a.toml", "[loading]\nchunksize = 0", "loading.chunksize: expected a whole number of at least 1, got 0"),
        ("a.toml", "[retries]\nfirst_pause = -1", "retries.first_pause: expected a number of seconds, not negative"),
        ("a.toml", "[retries]\nfirst_pause = nan", "retries.first_pause: expected a number of seconds, not negative"),
        ("a.toml", "[productions.a]\ntiles = 2.0", "productions.a.tiles: expected a name that is one component"),
        ("a.toml", "[productions.a]\nrelease = '..'", "productions.a.release: expected a name that is one component"),
        ("a.toml", "[productions.a]\nredshift = 'v1'", 'productions.a.redshift: expected "base", "daily", "patch/vX"'),
        ("a.toml", "[productions.'a/b']\ntiles = '1'", "productions.a/b.tiles: expected productions.NAME.KEY"),
        ("a.toml", "[productions.a]\nfoo = 1", "unknown key productions.a.foo; productions.a has release, photometry"),
        ("a.toml", "[lodaing]", "unknown table lodaing"),
        ("a.toml", "loading = 3", "unknown key loading"),
        ("a.toml", "[loading\n", "is not TOML: Expected ']'"),
        ("a.toml", "[results]\nstorage = ['a.B', 3]", "results.storage: expected the dotted path of a class"),
        ("a.toml", "[results]\nstorage = 'B'", "results.storage: expected the dotted path of a class"),
        (
            "a.toml",
            "PIPELINES_PIPELINES_RESULTS_STORAGE = 'a.B'\nresults.storage = 'a.B'",
            "results.storage is set twice",
        ),
        (
            "a.ini",
            "[DEFAULT]\nchunksize = many",
            "loading.chunksize: expected a whole number of at least 1, got 'many'",
        ),
        ("a.ini", "[DEFAULT]\ncolour = red", "unknown key colour"),
        ("a.ini", "[iron]\ncolour = red", "unknown key productions.iron.colour"),
        ("a.ini", "[iron]\ntarget_summary = maybe", "target_summary: expected true or false, got 'maybe'"),
        ("a.ini", "chunksize = 3", "line 1 stands before the first [section]"),
        ("a.ini", "[iron]\ntiles = 1\n[iron]\n", "line 3 repeats a section or a key"),
        ("a.ini", "[iron]\n]secret", "is not INI: cannot read line 2"),
        ("a.ini", "[iron]\ntiles = 1.1\n[productions.iron]\ntiles = 1.1", "productions.iron.tiles is set twice"),
    ],
)
def test_a_wrong_file_is_named_with_the_key(write, name, text, message):
    path = write(name, text)
    with pytest.raises(ConfigurationError) as caught:
        load_configuration(path, environ={})
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("variable", ["SPECPROD_CONFIG", None])
def test_a_named_file_must_exist(tmp_path, variable):
    path = tmp_path / "absent.toml"
    with pytest.raises(ConfigurationError, match=r"absent\.toml: cannot be read: No such file"):
        load_configuration(None if variable else path, environ={variable: str(path)} if variable else {})


def test_a_file_that_is_not_text(tmp_path):
    path = tmp_path / "a.toml"
    path.write_bytes(b'a = "\xff"')
    with pytest.raises(ConfigurationError, match="is not UTF-8 at byte 5"):
        load_configuration(path, environ={})
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_configuration(tmp_path, environ={})


def test_a_wrong_option_is_named():
    with pytest.raises(ConfigurationError, match=r"^option --chunksize: loading\.chunksize: expected"):
        load_configuration(environ={}).override({"loading.chunksize": 0}, "option --chunksize")


def test_unknown_key_asked_for():
    with pytest.raises(ConfigurationError, match=r"unknown key loading\.chunksise; did you mean loading\.chunksize"):
        load_configuration(environ={}).get("loading.chunksise")


def test_ini_of_the_survey(write):
    text = """\
[DEFAULT]
username = loader
hostname = db.example.org
chunksize = 1000
PIPELINES_PIPELINES_RESULTS_STORAGE = ["a.b.C", {"size": 3}]
tiles = 2.0

[test]
release = dr2
photometry = v1%20
target_summary = true
redshift = patch/v1

[other]
release = dr1
photometry = v1.1
target_summary: no
redshift = base
tiles = 1.1
chunksize = 20

[loading]
workers = 4

[batch.profiles.here]
account = me
directives =
    --mem=8G
    --exclude=node1,node2

[batch]
profile = here
"""
    configuration = load_configuration(write("a.cfg", text.replace("v1%20", "v1")), environ={})
    assert configuration.production("test") == Production("test", "dr2", "v1", True, "patch/v1", "2.0")
    assert configuration.production("other") == Production("other", "dr1", "v1.1", False, "base", "1.1")
    assert configuration.database() == "postgresql://loader@db.example.org/desi"
    assert configuration.get("loading.chunksize") == 1000
    assert configuration.for_production("other").get("loading.chunksize") == 20
    assert configuration.get("loading.workers") == 4
    assert configuration.get("results.storage") == ("a.b.C", {"size": 3})
    assert configuration.get("batch.account") == "me"
    assert configuration.get("batch.directives") == ("--mem=8G", "--exclude=node1,node2")
    with pytest.raises(ConfigurationError, match="v1%20"):
        load_configuration(write("b.cfg", text), environ={})


def test_ini_and_toml_examples_load_and_agree():
    of_toml = load_configuration(ROOT / "etc/specprod.toml", environ={})
    of_ini = load_configuration(ROOT / "etc/specprod.ini", environ={})
    assert of_toml.production("test") == of_ini.production("test")
    assert of_toml.database() == of_ini.database() == "postgresql://desi_admin@specprod-db.desi.lbl.gov/desi"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a.b.C", "a.b.C"),
        ('["a.b.C", {"directory": "x"}]', ("a.b.C", {"directory": "x"})),
    ],
)
def test_storage_from_the_environment(text, expected):
    configuration = load_configuration(environ={"PIPELINES_PIPELINES_RESULTS_STORAGE": text})
    assert configuration.get("results.storage") == expected
    assert configuration.get("PIPELINES_PIPELINES_RESULTS_STORAGE") == expected
    assert configuration.origin("results.storage") == "environment variable PIPELINES_PIPELINES_RESULTS_STORAGE"


def test_wrong_environment_names_the_variable():
    with pytest.raises(ConfigurationError, match="environment variable PIPELINES_PIPELINES_RESULTS_STORAGE: results"):
        load_configuration(environ={"PIPELINES_PIPELINES_RESULTS_STORAGE": "[3"})


def test_storage_keywords_cannot_be_changed_from_outside():
    configuration = load_configuration(environ={"PIPELINES_PIPELINES_RESULTS_STORAGE": '["a.B", {"x": 1}]'})
    configuration.get("results.storage")[1]["x"] = 2
    assert configuration.get("results.storage") == ("a.B", {"x": 1})


def test_site_profiles(write):
    nersc = load_configuration(environ={})
    assert [nersc.get(f"batch.{word}") for word in ("account", "qos", "constraint", "licenses", "job_dir")] == [
        "desi",
        "regular",
        "cpu",
        "SCRATCH,cfs",
        "~/Documents/Jobs",
    ]
    assert nersc.origin("batch.account") == "profile nersc (built-in default)"
    path = write("a.toml", '[batch]\nqos = "debug"\n[batch.profiles.nersc]\naccount = "m1"')
    changed = load_configuration(path, environ={})
    assert (changed.get("batch.account"), changed.origin("batch.account")) == ("m1", f"profile nersc ({path})")
    assert (changed.get("batch.qos"), changed.origin("batch.qos")) == ("debug", str(path))
    assert changed.get("batch.constraint") == "cpu"
    plain = nersc.override({"batch.profile": "plain"}, "option --profile")
    assert (plain.get("batch.account"), plain.origin("batch.account")) == ("", "built-in default")


def test_unknown_profile():
    configuration = load_configuration(environ={}).override({"batch.profile": "moon"}, "option --profile")
    with pytest.raises(ConfigurationError, match=r"no site 'moon' \(option --profile\); known are nersc, plain"):
        configuration.get("batch.account")


@pytest.mark.parametrize(
    ("url", "masked"),
    [
        ("postgresql://u:p@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:p:q/r@s@h/d", "postgresql://u:***@h/d"),
        ("postgresql+psycopg://:p@h", "postgresql+psycopg://:***@h"),
        ("postgresql://u@h:5432/d", "postgresql://u@h:5432/d"),
        ("postgresql://h/d?user=u&password=p&x=1", "postgresql://h/d?user=u&password=***&x=1"),
        ("host=h password=p dbname=d", "host=h password=*** dbname=d"),
        ("host=h password = 'p \\' q' dbname=d", "host=h password = *** dbname=d"),
        ("postgresql://u:two words@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u:quote'\"@h/d", "postgresql://u:***@h/d"),
        ("postgresql://u@x:p@h/d", "postgresql://u@x:***@h/d"),
        ("postgresql://h/d?pass%77ord=p&a=b", "postgresql://h/d?pass%77ord=***&a=b"),
        ("postgresql://h/d?p%2561ssword=p", "postgresql://h/d?p%2561ssword=***"),
        ("postgresql://h/d?SSLPASSWORD=p:q@r", "postgresql://h/d?SSLPASSWORD=***"),
        ("postgresql://u:two words", "postgresql://u:***"),
        ("postgresql://[::1]:5432/d", "postgresql://[::1]:5432/d"),
        ("postgresql://a:5432,b:5433/d", "postgresql://a:5432,b:5433/d"),
        ("host=h password='p q", "host=h password=***"),
        ("host=h password=p\\ q dbname=d", "host=h password=*** dbname=d"),
        ("--database=postgresql://u:p 'q@h/d", "--database=postgresql://u:***@h/d"),
        ("PGPASSWORD=p", "PGPASSWORD=***"),
        ("u:p@h/d", "u:***@h/d"),
        ("//u:p@h/d", "//u:***@h/d"),
        ("/data/a:b@c.db", "/data/a:b@c.db"),
        ("./a:b@c.db", "./a:b@c.db"),
        ("ada@example.org", "ada@example.org"),
        ("a=b.db", "a=b.db"),
        ("a.db", "a.db"),
        ("sqlite:////tmp/a.db", "sqlite:////tmp/a.db"),
    ],
)
def test_masked_passwords(url, masked):
    assert mask_password(url) == masked


def test_masked_commands():
    words = ["specprod-load", "run", "a b", "--database", "postgresql://u:p q'@h/d", "--schema=it's"]
    shown = "specprod-load run 'a b' --database postgresql://u:***@h/d '--schema=it'\"'\"'s'"
    assert mask_command(words) == mask_command(shlex.join(words)) == shown
    # What is no command, for a quote is not closed, is masked as prose.
    assert mask_command("it's postgresql://u:p@h/d") == "it's postgresql://u:***@h/d"


def test_masked_data():
    data = {"url": "postgresql://u:p q@h/d", "api_token": "x", "n": 3, "list": ["see postgresql://u:p@h/d now", None]}
    expected = {"url": "postgresql://u:***@h/d", "api_token": "***", "n": 3}
    assert mask_data(data) == expected | {"list": ["see postgresql://u:***@h/d now", None]}


def test_defaults_agree():
    """Functions, configuration and examples have one default of each thing."""
    configuration = load_configuration(environ={})
    functions = (load_file, load_patch, extract, Loader)
    sizes = {inspect.signature(function).parameters["chunksize"].default for function in functions}
    assert sizes == {configuration.get("loading.chunksize")} == {25000}
    retries = {name: configuration.get(f"retries.{name}") for name in ("attempts", "first_pause", "longest_pause")}
    assert retries == dataclasses.asdict(Retries()) == {"attempts": 8, "first_pause": 0.2, "longest_pause": 30.0}
    for name in ("specprod.toml", "specprod.ini"):
        example = load_configuration(ROOT / "etc" / name, environ={})
        assert example.get("loading.chunksize") == 25000
        assert {key: example.get(f"retries.{key}") for key in retries} == retries


@given(
    st.text(st.characters(codec="ascii", exclude_categories=["C"]), min_size=5).filter(lambda text: "***" not in text)
)
def test_no_password_of_a_url_survives(password):
    password = f"<{password}>"
    shown = load_configuration(environ={"SPECPROD_DATABASE": f"postgresql://u:{password}@h/d"}).shown("database.url")
    assert shown == "postgresql://u:***@h/d"


def test_passwords_are_masked_wherever_a_configuration_is_shown():
    url = "postgresql://u:geheim@h/d"
    configuration = load_configuration(environ={}).override({"database.url": url}, "option --database")
    assert configuration.get("database.url") == url
    assert "geheim" not in repr(configuration) + configuration.shown("database.url")
    keywords = {"url": url, "password": "geheim", "deep": [{"url": url}]}
    storage = configuration.override({"results.storage": ("a.B", keywords)}, "option")
    assert "geheim" not in storage.shown("results.storage") + repr(storage)
    with pytest.raises(ConfigurationError) as caught:
        configuration.override({"database.url": url + "\n"}, "option --database")
    assert "geheim" not in str(caught.value)


def test_every_key_is_described_in_the_documentation():
    page = (ROOT / "docs/configuration.rst").read_text()
    assert [name for name in known_names() if name.rpartition(".")[2] not in page] == []
    assert [name for name in KEYS if not name.startswith("batch.") and f"``{name}``" not in page] == []


def test_only_the_standard_library_is_imported():
    code = (
        "import sys, specprod.configuration as c; c.load_configuration();"
        "print(sorted({n.partition('.')[0] for n in sys.modules} "
        "& {'numpy', 'astropy', 'sqlalchemy', 'rich', 'click'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
