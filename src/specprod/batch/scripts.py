"""The scripts of a batch, and the list of their order."""

from __future__ import annotations

import argparse
import functools
import importlib.metadata
import logging
import shlex
import string
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Final

from specprod.batch.options import BatchOptions
from specprod.batch.shell import directive, quote
from specprod.errors import ConfigurationError
from specprod.files.publishing import Publication
from specprod.stages import STAGE_NAMES
from specprod.tiles.selection import select_tiles

__all__ = ["prepare_template", "write_scripts"]

logger = logging.getLogger(__name__)

# SLURM numbers the tasks of an array up to 1000 unless a site allows more.
_ARRAY_SIZE: Final = 1000


class _Template(string.Template):
    """A script with places such as @{command}: the dollar is the shell's."""

    delimiter = "@"


def prepare_template(options: BatchOptions | argparse.Namespace) -> dict[str, str]:
    """Prepare the scripts of a batch.

    Parameters
    ----------
    options : BatchOptions or argparse.Namespace
        What to load, and from where; a namespace needs the attributes email, root and specprod,
        and has any of the others of :class:`BatchOptions`.

    Returns
    -------
    dict
        File name to contents: the scripts, in the order in which they are to run, and then the list of that order,
        ``{prefix}.jobs``. In it stands a script a line; after an array, the directory of its marks and their names.

    Raises
    ------
    ConfigurationError
        If an option is wrong.
    InputError
        If the tiles file cannot be read, or holds no tile to load.
    """
    batch = BatchOptions.of(options)
    if batch.tiles is None:
        return _with_order(batch, _stage_scripts(batch))
    tiles = select_tiles(batch.tiles)
    return _with_order(batch, (_array_scripts if batch.array else _tile_scripts)(batch, tiles))


def write_scripts(scripts: Mapping[str, str], job_dir: Path) -> list[Path]:
    """Write scripts, all beside their places and then moved there together.

    Parameters
    ----------
    scripts : mapping
        File name to contents, as :func:`prepare_template` returns them.
    job_dir : pathlib.Path
        Where to; made if absent, with its subdirectory ``done``.

    Returns
    -------
    list of pathlib.Path
        The files, in the order of `scripts`.

    Raises
    ------
    ConfigurationError
        If the directory cannot be written.
    """
    paths = [job_dir / name for name in scripts]
    try:
        (job_dir / "done").mkdir(parents=True, exist_ok=True)
        with Publication(overwrite=True) as publication:
            for path in paths:
                beside = publication.path(path)
                beside.write_text(scripts[path.name], encoding="utf-8", errors="surrogateescape")
                beside.chmod(0o644 if path.suffix == ".jobs" else 0o755)
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", file=error.filename or job_dir) from error
    logger.info("%d scripts in %s", len(paths) - 1, job_dir)
    return paths


def _with_order(batch: BatchOptions, scripts: Iterator[tuple[str, str, Sequence[str]]]) -> dict[str, str]:
    """Contents of the scripts, and of the list of their order."""
    contents, order = {}, []
    for name, text, items in scripts:
        contents[name] = text
        order.append(" ".join([name, *items]))
    return {**contents, f"{batch.prefix}.jobs": "\n".join(order) + "\n"}


def _stage_scripts(batch: BatchOptions) -> Iterator[tuple[str, str, Sequence[str]]]:
    for stage in STAGE_NAMES:
        key = f"batch.time_{stage}"
        known = stage in ("exposures", "photometry")
        limit = batch.configuration.get(key if known else "batch.time_stage")
        words = [*_common_words(batch, ["run", _root(batch)]), "--stage", stage]
        yield _job(batch, stage, limit, words, first=stage == STAGE_NAMES[0])


def _tile_scripts(batch: BatchOptions, tiles: Sequence[tuple[int, int]]) -> Iterator[tuple[str, str, Sequence[str]]]:
    for number, (tileid, _) in enumerate(tiles):
        yield _tile_job(batch, tileid, first=number == 0, last=number == len(tiles) - 1)


def _tile_job(batch: BatchOptions, tileid: int, *, first: bool, last: bool) -> tuple[str, str, Sequence[str]]:
    limit = batch.configuration.get("batch.time_primary" if last else "batch.time_tile")
    words = _tile_words(batch, str(tileid))
    return _job(batch, str(tileid), limit, [*words, "--primary"] if last else words, first=first)


def _array_scripts(batch: BatchOptions, tiles: Sequence[tuple[int, int]]) -> Iterator[tuple[str, str, Sequence[str]]]:
    """First tile, the tiles between in arrays, last tile.

    The first stands alone because it makes the schema, the last because it needs all the others.
    """
    yield _tile_job(batch, tiles[0][0], first=True, last=len(tiles) == 1)
    between = tiles[1:-1]
    for start in range(0, len(between), _ARRAY_SIZE):
        yield _array(batch, start // _ARRAY_SIZE + 1, between[start : start + _ARRAY_SIZE])
    if len(tiles) > 1:
        yield _tile_job(batch, tiles[-1][0], first=False, last=True)


def _array(batch: BatchOptions, number: int, tiles: Sequence[tuple[int, int]]) -> tuple[str, str, Sequence[str]]:
    name = _script_name(batch, f"array{number}")
    # The last night belongs to the mark of a tile that is done: a tile that has gained exposures is loaded again.
    items = [f"{tileid}_{lastnight}" for tileid, lastnight in tiles]
    limit = batch.limit or batch.configuration.get("batch.concurrent")
    if "://" not in batch.database and limit > 1:
        logger.warning("an SQLite file takes one writer: the tiles of the array run one after the other")
        limit = 1
    directives = [
        *_directives(batch, name, batch.configuration.get("batch.time_tile"), log="%x-%A_%a.log"),
        f"#SBATCH --array=1-{len(items)}%{limit}",
    ]
    tileid = "$tileid" if batch.csh else '"${item%_*}"'
    values = {
        **_places(batch, name),
        "directives": "\n".join(directives),
        "tiles": "\n".join(f"{item} \\" for item in items) if batch.csh else "\n".join(items),
        "marks": batch.marks,
        "command": " ".join(_tile_words(batch, tileid)),
    }
    return name, _render("array", batch.csh).substitute(values), [batch.marks, *items]


def _job(
    batch: BatchOptions, part: str, limit: str, words: Sequence[str], *, first: bool
) -> tuple[str, str, Sequence[str]]:
    """Make a script of its own: its name, its contents, and no tasks."""
    name = _script_name(batch, part)
    before = mark = ""
    if first and batch.overwrite:
        before, mark, option = _overwriting(batch)
        words = [*words, option]
    values = {
        **_places(batch, name),
        "directives": "\n".join(_directives(batch, name, limit, log="%x-%j.log")),
        "before": before,
        "mark": mark,
        "command": " ".join(words),
    }
    return name, _render("job", batch.csh).substitute(values), ()


def _overwriting(batch: BatchOptions) -> tuple[str, str, str]:
    """Lines before the load, lines after its success, and the word that becomes ``--overwrite --yes`` or nothing.

    A second submission of the first script must not delete what the others have loaded since. So the first success
    leaves a mark, and where the mark stands nothing is overwritten. It is the success that leaves it: after a failure
    it is unknown whether the old rows are gone, and going on with them would be the greater harm. Where the mark does
    not stand, the marks of tiles are of rows that are about to be deleted, and go with them.
    """
    if batch.csh:
        before = [
            f"set marks = $job_dir:q/done/{batch.marks}",
            "set overwrite = (--overwrite --yes)",
            "if ( -e $marks:q/overwritten ) then",
            "    set overwrite = ()",
            "else",
            "    rm -rf $marks:q",
            "endif",
        ]
        after, option = 'mkdir -p $marks:q && echo "$script $SLURM_JOB_ID" > $marks:q/overwritten', "$overwrite:q"
    else:
        before = [
            f'marks="${{job_dir}}/done/{batch.marks}"',
            "overwrite=(--overwrite --yes)",
            'if [ -e "${marks}/overwritten" ]; then',
            "    overwrite=()",
            "else",
            '    rm -rf "${marks}"',
            "fi",
        ]
        after = 'mkdir -p "${marks}" && echo "${script} ${SLURM_JOB_ID}" > "${marks}/overwritten"'
        option = '"${overwrite[@]}"'
    return "".join(f"{line}\n" for line in before), f"    {after}\n", option


def _root(batch: BatchOptions) -> str:
    return "$DESI_ROOT:q" if batch.csh else '"${DESI_ROOT}"'


def _tile_words(batch: BatchOptions, tileid: str) -> list[str]:
    words = _common_words(batch, ["tile", _root(batch), tileid])
    if batch.patch_tiles is not None:
        for option, file in zip(("--tiles-file", "--exposures-file"), batch.patch_tiles, strict=True):
            words += [option, quote(str(Path(file).expanduser().absolute()), csh=batch.csh)]
    return words


def _common_words(batch: BatchOptions, command: Sequence[str]) -> list[str]:
    """Words of a load, quoted: the launcher, the command with its arguments, and the options that all have."""
    specprod = "$SPECPROD:q" if batch.csh else '"${SPECPROD}"'
    launcher = [quote(word, csh=batch.csh) for word in shlex.split(batch.configuration.get("batch.launcher"))]
    words = [*launcher, "specprod-load", *command, "--specprod", specprod]
    words += ["--schema", specprod if batch.target == batch.specprod else quote(batch.target, csh=batch.csh)]
    words += ["--database", quote(batch.database, csh=batch.csh)]
    if batch.config is not None:
        words += ["--config", quote(str(Path(batch.config).expanduser().absolute()), csh=batch.csh)]
    return [*words, "--public"] if batch.public else words


def _places(batch: BatchOptions, name: str) -> dict[str, str]:
    """Values of the template that all scripts of a batch have."""
    module = batch.configuration.get("batch.module").replace("{version}", importlib.metadata.version("specprod"))
    # In csh `module` is an alias, after whose expansion a `||` is an error of syntax.
    stop = "\nif ( $status ) exit 1\n" if batch.csh else " || exit 1\n"
    return {
        "module": f"module load {quote(module, csh=batch.csh)}{stop}" if module else "",
        "root": quote(str(Path(batch.root).expanduser().absolute()), csh=batch.csh),
        "specprod": quote(batch.specprod, csh=batch.csh),
        "job_dir": quote(str(batch.jobs), csh=batch.csh),
        "script": quote(name, csh=batch.csh),
    }


def _directives(batch: BatchOptions, name: str, limit: str, *, log: str) -> list[str]:
    get = batch.configuration.get
    mail = get("batch.mail_type")
    values = {
        "qos": get("batch.qos"),
        "partition": get("batch.partition"),
        "constraint": get("batch.constraint"),
        "nodes": 1,
        "time": limit,
        "job-name": name,
        # A percent sign of the directory is not the beginning of a pattern.
        "output": f"{str(batch.jobs).replace('%', '%%')}/{log}",
        "licenses": get("batch.licenses"),
        "account": get("batch.account"),
        "mail-type": mail,
        "mail-user": batch.email if mail else "",
    }
    own = [f"#SBATCH {words}" for words in get("batch.directives")]
    return [*(directive(option, value) for option, value in values.items() if value != ""), *own]


def _script_name(batch: BatchOptions, part: str) -> str:
    return f"{batch.prefix}_{part}.{'csh' if batch.csh else 'sh'}"


@functools.cache
def _render(kind: str, csh: bool) -> _Template:
    file = resources.files("specprod.batch") / f"{kind}.{'csh' if csh else 'sh'}.txt"
    return _Template(file.read_text(encoding="utf-8"))
