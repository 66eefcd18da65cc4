"""Passwords in URLs, connection strings, commands and messages, and what is shown in their place.

URLs and connection strings are taken apart as those who read them do it: a name such as ``pass%77ord`` is decoded, and
a password may hold blanks, quotes, colons and slashes. Only prose, which has no grammar, is searched for what looks
like one.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import unquote_plus

__all__ = ["MASK", "mask_command", "mask_data", "mask_password", "mask_text"]

#: What stands in the place of a password.
MASK: Final = "***"

_SECRETS = ("password", "passwd", "pwd", "secret", "token")
_SCHEME = re.compile(r"[A-Za-z][\w+.-]*://")
_NAME = re.compile(r"\s*([^\s='\"]+)\s*=\s*")
# The value of a connection string ends at a blank that no backslash protects, or at the quote that closes it.
_VALUE = re.compile(r"'(?:[^'\\]|\\.)*(?:'|$)|(?:[^\s\\]|\\.)*", re.DOTALL)
# Of bounded length: else each letter of a long word would be tried as the beginning of a scheme.
_URL_IN_PROSE = re.compile(r"[A-Za-z][\w+.-]{0,40}://[^\s'\"]*")
_NAMED_IN_PROSE = re.compile(
    rf"""((?:{"|".join(_SECRETS)})(?:\s*=|["']\s*:)\s*)('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|[^\s&,;}}]+)""",
    re.IGNORECASE,
)


def mask_password(text: str) -> str:
    """Replace the passwords in a database URL or connection string by ``***``.

    Parameters
    ----------
    text : str
        A URL, a connection string of libpq, the word of a command (``--database=URL``), or anything else, which stays
        as it is.

    Examples
    --------
    >>> mask_password("postgresql://me:two words@host/db?pass%77ord=it")
    'postgresql://me:***@host/db?pass%77ord=***'
    >>> mask_password("host=h password = 'two words'")
    'host=h password = ***'
    """
    if _SCHEME.match(text):
        return _masked_url(text)
    if "=" in text and (found := _masked_string(text)) is not None:
        return found
    user, colon, rest = text.partition(":")
    _, at, server = rest.rpartition("@")
    # Without a scheme: user:password@server/name. A name that begins as a path is one.
    if colon and at and "://" not in text and not text.startswith(("/", "./", "../", "~")):
        return f"{user}:{MASK}@{server}"
    if text.startswith("//"):
        return f"//{_masked_authority(text[2:])}"
    return text


def mask_command(command: str | Iterable[str]) -> str:
    """Mask the passwords in a command, word by word, and write it as it would be typed.

    Parameters
    ----------
    command : str or iterable of str
        The command, or its words.
    """
    if isinstance(command, str):
        try:
            words = shlex.split(command)
        except ValueError:
            # No command: a quote is not closed.
            return mask_text(command)
    else:
        words = list(command)
    return " ".join(_quoted(mask_password(word)) for word in words)


def mask_text(text: str) -> str:
    """Mask what looks like a password in a message."""
    return _NAMED_IN_PROSE.sub(rf"\1{MASK}", _masked_urls(text))


def mask_data(data: Any) -> Any:
    """Mask the passwords in all texts of data as JSON has them, and whatever is named password, secret or token."""
    if isinstance(data, str):
        return mask_text(data) if re.search(r"\s", data) and not _SCHEME.match(data) else mask_password(data)
    if isinstance(data, Mapping):
        return {
            key: MASK if isinstance(value, str) and _is_secret(str(key)) else mask_data(value)
            for key, value in data.items()
        }
    return [mask_data(item) for item in data] if isinstance(data, list | tuple) else data


def _is_secret(name: str) -> bool:
    """Whether a name is that of a password, once or more often encoded."""
    while (decoded := unquote_plus(name)) != name:
        name = decoded
    return any(word in name.casefold() for word in _SECRETS)


def _masked_url(url: str) -> str:
    scheme, separator, rest = url.partition("://")
    # Where a path follows at once, there is no user.
    rest = rest if rest.startswith("/") else _masked_authority(rest)
    place, mark, query = rest.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    shown = [
        f"{name}={MASK}" if equals and _is_secret(name) else name + equals + value for name, equals, value in pairs
    ]
    return f"{scheme}{separator}{place}{mark}{'&'.join(shown)}"


def _masked_authority(rest: str) -> str:
    """Mask from the first colon to the last @: whoever forgot to encode one in a password must not find it shown."""
    before, at, server = rest.rpartition("@")
    user, colon, _ = before.partition(":")
    if at:
        return f"{user}:{MASK}@{server}" if colon else rest
    host, colon, port = re.split(r"[/?#]", rest, maxsplit=1)[0].partition(":")
    if not colon or host.startswith("[") or not port.strip("0123456789,:") or "," in host + port:
        return rest
    return f"{host}:{MASK}{rest[len(host) + 1 + len(port) :]}"


def _masked_string(text: str) -> str | None:
    """Mask a connection string; None if it is not name=value, name=value …."""
    shown = []
    place = 0
    while text[place:].strip():
        name = _NAME.match(text, place)
        if name is None:
            return None
        value = _VALUE.match(text, name.end())
        end = value.end() if value is not None else name.end()
        if _is_secret(name[1]):
            shown.append(name[0] + MASK)
        elif _SCHEME.match(text, name.end()):
            # A word such as --database=URL, in which the URL goes on to the end.
            shown.append(name[0] + _masked_url(text[name.end() :]))
            end = len(text)
        else:
            shown.append(text[place:end])
        place = end
    return "".join(shown) + text[place:]


def _masked_urls(text: str) -> str:
    """Mask the URLs in prose; one whose password holds a blank goes on to the last @."""
    shown, place = [], 0
    while found := _URL_IN_PROSE.search(text, place):
        end = found.end()
        masked = _masked_url(found[0])
        if "@" not in found[0] and masked != found[0] and "@" in text[end:]:
            last = text.rindex("@")
            rest = re.match(r"[^\s'\"]*", text[last:])
            end = last + (rest.end() if rest else 0)
            masked = _masked_url(text[found.start() : end])
        shown += [text[place : found.start()], masked]
        place = end
    return "".join([*shown, text[place:]])


def _quoted(word: str) -> str:
    """Quote a word for a shell, but not for the sake of the mask alone."""
    bare = word.replace(MASK, "")
    return word if bare and shlex.quote(bare) == bare else shlex.quote(word)
