"""What a batch of scripts is made from."""

from __future__ import annotations

import argparse
import os
import re
import zlib
from dataclasses import dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import Final

from specprod.batch.shell import plain
from specprod.configuration import Configuration, load_configuration, mask_password
from specprod.errors import ConfigurationError

__all__ = ["BatchOptions"]

# Schema and production are parts of file names, of which a list separated by blanks is made.
_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")
_MAIL: Final = re.compile(r"[^\s@,;'\"]+@[^\s@,;'\"]+")


@dataclass(frozen=True, kw_only=True)
class BatchOptions:
    """What a batch of scripts is made from.

    Parameters
    ----------
    email : str
        Who gets the mails of SLURM.
    root : str or pathlib.Path
        Directory above ``spectro``, ``target`` and ``vac``.
    specprod : str
        Name of the production.
    schema : str, optional
        Schema to load into; ``database.schema`` of the configuration by default, else that of the production's name.
    csh : bool, optional
        Write csh scripts instead of bash.
    job_dir : str or pathlib.Path, optional
        Directory of scripts, logs and marks; ``batch.job_dir`` of the configuration by default.
    tiles_file : str or pathlib.Path, optional
        Write a script a tile of this file (FITS or CSV), not a script a stage.
    patch_tiles : tuple of paths, optional
        Tiles file and exposures file that the loads use instead of those of the production.
        The first also names the tiles, if `tiles_file` does not.
    array : bool, optional
        One job array over the tiles instead of a script a tile.
    limit : int, optional
        How many tiles of the array run at once; ``batch.concurrent`` by default.
    overwrite : bool, optional
        Whether the first script replaces an existing schema.
    public : bool, optional
        Whether the public role may read.
    config : str or pathlib.Path, optional
        Configuration file that the loads read as well.
    configuration : specprod.configuration.Configuration, optional
        Read from `config` and the environment by default.

    Raises
    ------
    ConfigurationError
        If a value cannot stand in a script, or options exclude each other.
    """

    email: str
    root: str | Path
    specprod: str
    schema: str | None = None
    csh: bool = False
    job_dir: str | Path | None = None
    tiles_file: str | Path | None = None
    patch_tiles: tuple[str | Path, str | Path] | None = None
    array: bool = False
    limit: int | None = None
    overwrite: bool = True
    public: bool = False
    config: str | Path | None = None
    configuration: Configuration = field(default=None)  # type: ignore[assignment]

    def __post_init__(self) -> None:
        if self.configuration is None:
            config = None if self.config is None else Path(self.config)
            object.__setattr__(self, "configuration", load_configuration(config))
        if not _MAIL.fullmatch(plain("EMAIL", self.email)):
            raise ConfigurationError(f"EMAIL: expected an address such as ada@example.org, got {self.email!r}")
        for what, name in (("SPECPROD", self.specprod), ("schema", self.target)):
            if not _NAME.fullmatch(name):
                raise ConfigurationError(f"{what}: expected letters, digits and _.+- only, got {name!r}")
        for what, path in (("ROOT", self.root), ("--job-dir", self.jobs), ("--config", self.config or "")):
            plain(what, str(path))
        if "\\" in str(self.jobs):
            # SLURM leaves %x and %j as they are in the name of a log in which there is a backslash.
            raise ConfigurationError(f"--job-dir: SLURM cannot name logs below a directory with \\, {str(self.jobs)!r}")
        if self.patch_tiles is not None and len(self.patch_tiles) != 2:
            raise ConfigurationError("--patch-tiles: expected a tiles file and an exposures file")
        if self.limit is not None and self.limit < 1:
            raise ConfigurationError(f"--limit: expected a whole number of at least 1, got {self.limit}")
        if self.tiles is None and (self.array or self.limit is not None):
            raise ConfigurationError("--array and --limit are for tiles: give --tiles-file or --patch-tiles")
        if self.limit is not None and not self.array:
            raise ConfigurationError("--limit is for --array")
        if self.configuration.production(self.specprod).redshift == "daily" and self.tiles is None:
            raise ConfigurationError(f"{self.specprod} is loaded tile by tile: give --tiles-file or --patch-tiles")

    @classmethod
    def of(cls, options: BatchOptions | argparse.Namespace) -> BatchOptions:
        """Take the options that a namespace has, and the defaults of the others."""
        if isinstance(options, cls):
            return options
        known = {one.name for one in fields(cls)}
        return cls(**{name: value for name, value in vars(options).items() if name in known})

    @property
    def tiles(self) -> Path | None:
        """The file that names the tiles; None for a batch of stages."""
        chosen = self.tiles_file or (self.patch_tiles and self.patch_tiles[0])
        return _absolute(chosen) if chosen else None

    @property
    def jobs(self) -> Path:
        """Directory of scripts, logs and marks."""
        return _absolute(self.job_dir or self.configuration.get("batch.job_dir"))

    @property
    def target(self) -> str:
        """Schema to load into."""
        return self.schema or self.configuration.get("database.schema") or self.specprod

    @property
    def prefix(self) -> str:
        """What the names of all scripts begin with."""
        return f"load_specprod_{'db' if self.tiles is None else 'tile'}_{self.target}"

    @cached_property
    def database(self) -> str:
        """What the scripts name as database; never a path that depends on where a job runs.

        A batch is for a server: where nothing names a database, it is the configured server, not a file.

        Raises
        ------
        ConfigurationError
            If it holds a password; scripts are files that others may read.
        """
        configuration = self.configuration.for_production(self.specprod)
        if configuration.origin("database.url") == "built-in default":
            hostname = configuration.get("database.hostname")
            configuration = configuration.override({"database.hostname": hostname}, "batch")
        database = plain("--database", configuration.database())
        if mask_password(database) != database:
            raise ConfigurationError(
                f"the password of {mask_password(database)} would stand in the scripts: "
                "leave it to ~/.pgpass or a service file"
            )
        return database if "://" in database else str(_absolute(database))

    @property
    def marks(self) -> str:
        """Name of the directory, below ``done``, for marks of what is done in this schema of this database."""
        return f"{self.target}.{zlib.crc32(os.fsencode(self.database)):08x}"


def _absolute(path: str | Path) -> Path:
    return Path(path).expanduser().absolute()
