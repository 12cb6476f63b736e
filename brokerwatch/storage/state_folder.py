"""Where a cluster keeps its files, and whether a cluster is running there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Final

from brokerwatch.config.cluster_settings import SQLITE, ClusterSettings, is_in_a_file
from brokerwatch.errors import ConfigError, Problem, StoreError
from brokerwatch.storage.locks import holder, state_root
from brokerwatch.storage.records import KeyState, OrderEvent, Remembered, Transition
from brokerwatch.storage.store import Store


def running(settings: ClusterSettings) -> str:
    """The process that runs this cluster now, in words; empty: none that can be seen."""
    try:
        return holder(folder_of(settings) / CLAIM_NAME) if settings.remember else ""
    except (OSError, ConfigError):
        return ""


CLAIM_NAME: Final = "cluster.lock"


LIVED_NAME: Final = "lived"
"""A file that says that a cluster has run here, so that an empty database is a lost one."""


DATABASE_NAME: Final = "brokerwatch.db"


KEYS_NAME: Final = "keys"


def folder_of(settings: ClusterSettings) -> Path:
    """The state folder that these settings mean.

    Raises ConfigError where they name none, and the platform has none for this user.
    """
    if settings.state:
        return Path(settings.state).expanduser()
    try:
        return state_root() / settings.name
    except OSError as error:
        expected = f"expected a folder, because {error.strerror}"
        raise ConfigError((Problem("", "cluster.state", expected),)) from error


def store_of(settings: ClusterSettings) -> Store:
    """The store that these settings mean; not opened yet."""
    url = settings.store or f"{SQLITE}{folder_of(settings).absolute() / DATABASE_NAME}"
    # All nodes of a pool have one memory: that of the cluster.
    name = settings.name if settings.pool is None else settings.pool.stored_as or settings.name
    return Store(url, name, follows_link=bool(settings.store))


def loaded_store(store: Store) -> Remembered:
    try:
        return store.load()
    finally:
        store.close()


def stored_history(
    settings: ClusterSettings, broker: str | None, since_us: int | None, limit: int | None
) -> list[Transition]:
    """What is stored of these settings' cluster, oldest first. Raises StoreError."""
    store = _store_that_exists(settings)
    try:
        return list(store.history(broker, since_us, limit))
    finally:
        store.close()


def stored_order_events(
    settings: ClusterSettings, broker: str | None, since_us: int | None, limit: int | None
) -> list[OrderEvent]:
    """What is stored of the orders of these settings' cluster, oldest first. Raises StoreError."""
    store = _store_that_exists(settings)
    try:
        return list(store.order_events(broker, since_us, limit))
    finally:
        store.close()


def found_cluster(settings: ClusterSettings) -> ClusterSettings:
    """These settings with the name of the cluster that is stored there, where the name was not given.

    Raises StoreError, also where several clusters are stored and none has the name of these settings.
    """
    store = _store_that_exists(settings)
    try:
        names = store.clusters()
    finally:
        store.close()
    if settings.name in names or not names:
        return settings
    if len(names) > 1:
        raise StoreError(
            f"{store.where} has several clusters, and none is named {settings.name}: "
            f"name one with --cluster: {', '.join(names)}"
        )
    return replace(settings, name=names[0])


def _store_that_exists(settings: ClusterSettings) -> Store:
    store = store_of(settings)
    if is_in_a_file(settings) and not Path(store.where).exists():  # looking must not make it
        raise StoreError(
            f"nothing is stored at {store.where}: has this cluster run? "
            "name the one that you mean with --config, --cluster or --state"
        )
    return store


def stored_keys(settings: ClusterSettings) -> dict[str, KeyState]:
    """What these settings' cluster has stored of API keys, by fingerprint. Raises StoreError."""
    store = store_of(settings)
    if is_in_a_file(settings) and not Path(store.where).exists():  # looking must not make it
        return {}
    return loaded_store(store).keys
