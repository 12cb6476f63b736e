"""The URL of a store: what it may be, and what of it is secret."""

from __future__ import annotations

from typing import Final

from sqlalchemy import URL, make_url
from sqlalchemy.exc import ArgumentError

from brokerwatch.config.redaction import password_spellings
from brokerwatch.errors import StoreError


def secrets_of(url: str) -> tuple[str, ...]:
    """What of a store's URL is secret; nothing, if it is no URL."""
    try:
        return passwords(make_url(url)) if url else ()
    except (ArgumentError, ValueError):
        return ()


def passwords(url: URL) -> tuple[str, ...]:
    """What of a store's URL is secret, in every form in which an error may quote it."""
    named = (url.query.get(name, ()) for name in ("password", "sslpassword"))
    given = (one for value in named for one in ((value,) if isinstance(value, str) else value))
    return password_spellings((url.password, *given))


WRITE: Final = "write sqlite:///folder/file.db or postgresql+psycopg://user:password@host/database"


def understood(text: str) -> URL:
    """The URL of a store. Raises StoreError, which does not repeat the text: it may hold a password."""
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise StoreError(f"the store's URL is not one; {WRITE}") from None
    if url.drivername in ("postgresql", "postgresql+psycopg"):
        return url.set(drivername="postgresql+psycopg")
    if url.drivername != "sqlite":
        raise StoreError(
            f"the store's URL begins with {url.drivername}://, which is no store of ours; {WRITE}"
        )
    if url.database in (None, "", ":memory:") or url.host or url.query:
        raise StoreError(f"the store's URL names no file, or more than a file; {WRITE}")
    return url
