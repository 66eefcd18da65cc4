"""A PostgreSQL server that lives as long as the tests do."""

from __future__ import annotations

import contextlib
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psycopg

__all__ = ["Server", "binaries", "why_not"]

PASSWORD = "a:pass\\word"


def binaries() -> Path | None:
    """Find the directory of the server's programs, the newest one that has q3c before others."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), reverse=True)
    places = [path.parent for path in found]
    other = shutil.which("initdb")
    places += [Path(other).resolve().parent] if other else []
    return next((place for place in places if _has_q3c(place)), places[0] if places else None)


def _has_q3c(directory: Path) -> bool:
    config = directory / "pg_config"
    if not config.exists():
        return False
    share = subprocess.run([str(config), "--sharedir"], capture_output=True, text=True, check=True).stdout.strip()
    return (Path(share) / "extension" / "q3c.control").exists()


def why_not() -> str | None:
    """Say why no server with q3c can be started, or None."""
    directory = binaries()
    if directory is None:
        return "PostgreSQL's server programs are not installed (Debian: postgresql)"
    if not _has_q3c(directory):
        return f"q3c is not installed for the server in {directory} (Debian: postgresql-15-q3c)"
    return None


def _free_port() -> int:
    # Below the range from which the system draws the ports of clients: a server that is started again must find its
    # port free, and a client that tries again and again must not meet itself there.
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as free, contextlib.suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("no free port between 20000 and 32000")


class Server:
    """A server in a directory of its own, on a free port of this machine.

    Parameters
    ----------
    settings : sequence of str
        Lines for postgresql.conf. By default nothing is synchronised to disk, which only a crash of the machine would
        show.
    password : bool
        Whether connections over TCP need a password.
    """

    def __init__(
        self,
        settings: Sequence[str] = ("fsync = off", "full_page_writes = off", "max_wal_size = 2GB"),
        *,
        password: bool = False,
    ) -> None:
        directory = binaries()
        if directory is None:
            raise RuntimeError(why_not())
        self._programs = directory
        # The server refuses to run as root, and sockets need a short path.
        self._user = "postgres" if os.geteuid() == 0 else pwd.getpwuid(os.geteuid()).pw_name
        self.directory = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        if os.geteuid() == 0:
            shutil.chown(self.directory, self._user)
        self.data = self.directory / "data"
        self.superuser = "tester"
        self.password = PASSWORD if password else None
        secret = self.directory / "secret"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        method = "scram-sha-256" if password else "trust"
        self._run("initdb", "-D", str(self.data), "-U", self.superuser, f"--auth={method}", f"--pwfile={secret}", "-N")
        self.port = _free_port()
        lines = [
            f"port = {self.port}",
            "listen_addresses = '127.0.0.1'",
            f"unix_socket_directories = '{self.directory}'",
            "autovacuum_naptime = 1h",
            *settings,
        ]
        config = self.data / "postgresql.conf"
        config.write_text(config.read_text() + "\n".join(lines) + "\n")
        self.start()

    def _run(self, program: str, *arguments: str) -> None:
        prefix = (
            ["setpriv", f"--reuid={self._user}", "--regid", self._user, "--init-groups"] if os.geteuid() == 0 else []
        )
        result = subprocess.run(
            [*prefix, str(self._programs / program), *arguments],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd="/",
            check=False,
        )
        if result.returncode:
            raise RuntimeError(f"{program} failed: {result.stderr}")

    def start(self) -> None:
        """Start the server and wait until it answers."""
        log = str(self.directory / "log")
        self._run("pg_ctl", "-D", str(self.data), "-l", log, "-w", "-t", "60", "start")

    def stop(self, mode: str = "fast") -> None:
        """Stop the server; the mode immediate is a crash as far as the data are concerned."""
        self._run("pg_ctl", "-D", str(self.data), "-m", mode, "-w", "stop")

    def kill(self) -> None:
        """End the server's first process by SIGKILL; the others notice and end as well."""
        os.kill(int((self.data / "postmaster.pid").read_text().split()[0]), signal.SIGKILL)

    def remove(self) -> None:
        """Stop the server and delete its files."""
        if (self.data / "postmaster.pid").exists():
            self.stop("immediate")
        shutil.rmtree(self.directory, ignore_errors=True)

    def url(self, database: str = "postgres", user: str | None = None, password: str | None = None) -> str:
        """URL of a database, for SQLAlchemy and libpq."""
        from urllib.parse import quote

        secret = password or self.password
        login = f"{user or self.superuser}{':' + quote(secret, safe='') if secret else ''}"
        return f"postgresql://{login}@127.0.0.1:{self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Execute a statement as superuser, outside of a transaction."""
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    def create_database(self, name: str, *, q3c: bool = True) -> str:
        """Create a database and return its URL."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
        if q3c:
            self.execute("CREATE EXTENSION q3c", name)
        return self.url(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, whoever is connected to it."""
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
