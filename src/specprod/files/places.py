"""Places that headers of the survey name: often of another machine, or of a layout that is no more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from specprod.configuration import Configuration, load_configuration
from specprod.errors import InputError

__all__ = ["Places"]


def _built_in() -> Mapping[str, str]:
    return load_configuration(environ={}).moved()


@dataclass(frozen=True)
class Places:
    """Where the directories and files are that headers name.

    Attributes
    ----------
    moved : mapping of str to str
        Directories or files that stand elsewhere now, and where: absolute ones, or ones below the root of the
        production; of several that fit, the longest counts. By default those that are known.
    roots : tuple of pathlib.Path
        Directories besides the root in which the places may lie.
    """

    moved: Mapping[str, str] = field(default_factory=_built_in, hash=False)
    roots: tuple[Path, ...] = ()

    @classmethod
    def of(cls, configuration: Configuration) -> Places:
        """Take the rules of a configuration."""
        return cls(configuration.moved(), tuple(Path(item) for item in configuration.get("loading.roots")))

    def find(self, root: Path, text: str, key: str) -> Path:
        """Find the place that a header names.

        A place that is there under its name is taken as it is. Else what has moved is looked up twice: the beginning of
        an absolute name, which leads below the root as a rule, and then the beginning of what is left.

        Parameters
        ----------
        root : pathlib.Path
            Of the production; the literal ``DESIROOT`` stands for it, and names that are relative begin there.
        text : str
            Value in the header.
        key : str
            Keyword in the header, for messages.

        Returns
        -------
        pathlib.Path
            It need not exist.

        Raises
        ------
        InputError
            If it lies outside the root and all other directories that are allowed, links followed.
        """
        named = PurePosixPath(text)
        if named.parts[0] == "DESIROOT":
            named = named.relative_to("DESIROOT")
        place = root / named
        if not (place.exists() and self.allows(root, place)):
            if named.is_absolute():
                named = self._moved(named)
            for base in (root, root.resolve()):
                if named.is_absolute() and named.is_relative_to(base):
                    named = named.relative_to(base)
            place = root / named
            if not named.is_absolute() and not place.exists():
                place = root / self._moved(named)
        self.check(root, place, f"header key {key} names {text}")
        return place

    def _moved(self, named: PurePosixPath) -> PurePosixPath:
        fitting = [old for old in self.moved if named.is_relative_to(old)]
        if not fitting:
            return named
        old = max(fitting, key=lambda item: len(PurePosixPath(item).parts))
        return PurePosixPath(self.moved[old]) / named.relative_to(old)

    def allows(self, root: Path, place: Path) -> bool:
        """Whether a place lies in the root or in another directory that is allowed, links followed."""
        real = place.resolve()
        return any(real.is_relative_to(allowed.resolve()) for allowed in (root, *self.roots))

    def check(self, root: Path, place: Path, what: str) -> None:
        """Raise an InputError if a place is not allowed.

        Parameters
        ----------
        root, place : pathlib.Path
        what : str
            Who names it, for the message.
        """
        if not self.allows(root, place):
            allowed = ", ".join(map(str, (root, *self.roots)))
            raise InputError(
                f"{what}: {place.resolve()} lies outside of {allowed}; the configuration can say where it stands now "
                "([moved.NAME]), or allow more directories (loading.roots)"
            )
