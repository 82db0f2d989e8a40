"""Database URLs: read without repeating, and shown without what is secret."""

from __future__ import annotations

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from flask_reqsession.errors import ConfigurationError


def parse_url(value: str | URL) -> URL:
    """Return ``value`` as a URL of a known dialect.

    :raises ConfigurationError: it is none. The message never repeats it: it may hold a password.

    >>> parse_url("sqlite:///app.db").database
    'app.db'
    """
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):
        raise ConfigurationError(
            "The database URL can't be parsed. Write dialect+driver://user:password@host/database, "
            "and quote special characters of a password with urllib.parse.quote_plus()."
        ) from None
    try:
        url.get_dialect()
    except NoSuchModuleError as error:
        raise ConfigurationError(
            f"SQLAlchemy knows no dialect {url.drivername!r}. Correct the start of the database "
            "URL, or install the package that brings the dialect."
        ) from error
    return url


def shown(url: URL) -> str:
    """Return ``url`` as a message may show it: the query can hold a password as well.

    >>> shown(parse_url("sqlite:///app.db?password=secret"))
    'sqlite:///app.db'
    >>> from sqlalchemy import make_url
    >>> shown(make_url("postgresql://ada:secret@localhost/bank"))
    'postgresql://ada:***@localhost/bank'
    """
    return url.set(query={}).render_as_string()
