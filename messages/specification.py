"""The protocol as documents, made from the classes: a JSON Schema of each message, and AsyncAPI 3.0.

    python -m brokerwatch.messages.specification docs/wire

writes them anew. A test holds the files to what is made here.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any, Final

import msgspec

from brokerwatch.messages import health, key, money, stream, trading
from brokerwatch.messages.codec import DATA
from brokerwatch.messages.envelope import WIRE_VERSION, MessageType, Stamp
from brokerwatch.messages.health import MAX_WORD, NAME_PATTERN

_SUMMARY: Final[Mapping[MessageType, str]] = {
    MessageType.READING: "One account, whole.",
    MessageType.ROSTER: "All accounts without balances, or a part of them; also the supervisor's heartbeat.",
    MessageType.BALANCE_SEEN: "A broker to the supervisor: a fetch succeeded.",
    MessageType.FETCH_FAILED: "A broker to the supervisor: a fetch failed.",
    MessageType.BROKER_ALIVE: "A broker to the supervisor: it is alive; a node reports each change so.",
    MessageType.COMMAND: "A supervisor to the node that has the account: an operator's command.",
    MessageType.COMMAND_DONE: "A node to the supervisor: what became of a command.",
    MessageType.SUPERVISOR_ALIVE: "A supervisor to its nodes: commands would come from here.",
}
_CHANNELS: Final[Mapping[str, tuple[str, MessageType]]] = {
    "state": ("health/1/state/{exchange}/{broker}/", MessageType.READING),
    "roster": ("health/1/all/", MessageType.ROSTER),
    "rosterPart": ("health/1/all/{part}/", MessageType.ROSTER),
    "balance": ("broker/1/{exchange}/{broker}/balance/", MessageType.BALANCE_SEEN),
    "error": ("broker/1/{exchange}/{broker}/error/", MessageType.FETCH_FAILED),
    "alive": ("broker/1/{exchange}/{broker}/alive/", MessageType.BROKER_ALIVE),
    "command": ("command/1/to/{exchange}/{broker}/{id}/", MessageType.COMMAND),
    "commandDone": ("broker/1/{exchange}/{broker}/done/{id}/", MessageType.COMMAND_DONE),
    "supervisorAlive": ("command/1/alive/", MessageType.SUPERVISOR_ALIVE),
}
_PARAMETERS: Final[Mapping[str, str]] = {
    "exchange": "The ccxt id of the exchange, or `custom`.",
    "broker": "The configured name of the account.",
    "part": "Which part of the roster, from 2.",
    "id": "Which command it is.",
}


def schema(kind: MessageType) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the map that the body of one message holds."""
    message, components = _message(kind, "#/$defs/{name}")
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": str(kind),
        **message,
        "$defs": components,
    }


def asyncapi() -> dict[str, Any]:
    """The AsyncAPI 3.0 document of both topics: what a cluster sends, and where."""
    messages: dict[str, Any] = {}
    schemas: dict[str, Any] = {}
    for kind in MessageType:
        payload, components = _message(kind, "#/components/schemas/{name}")
        schemas |= components
        messages[str(kind)] = {
            "name": str(kind),
            "summary": _SUMMARY[kind],
            "contentType": "application/msgpack",
            "payload": payload,
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "brokerwatch",
            "version": str(WIRE_VERSION),
            "description": "ZeroMQ PUB/SUB. A message has two frames: its topic, which is the address of the "
            "channel, and its body, one msgpack map. Further frames, unknown keys and words are ignored.",
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": "application/msgpack",
        "servers": {
            "health": {
                "host": "127.0.0.1:5571",
                "protocol": "zmq",
                "description": "XPUB, bound by the cluster (`health_endpoint`); listeners connect a SUB. "
                "Beyond loopback always, and on loopback by configuration, with CURVE (ZeroMQ RFC 26).",
            },
        },
        "channels": {name: _channel(address, kind) for name, (address, kind) in _CHANNELS.items()},
        "operations": {
            f"send{name[0].upper()}{name[1:]}": {
                "action": "send",
                "channel": {"$ref": f"#/channels/{name}"},
                "messages": [{"$ref": f"#/channels/{name}/messages/{kind}"}],
            }
            for name, (_, kind) in _CHANNELS.items()
        },
        "components": {"messages": messages, "schemas": schemas},
    }


def documents() -> dict[str, bytes]:
    """Each document by its path below docs/wire."""
    made = {f"schemas/{kind}.schema.json": schema(kind) for kind in MessageType}
    return {
        path: msgspec.json.format(msgspec.json.encode(document), indent=1) + b"\n"
        for path, document in {**made, "asyncapi.json": asyncapi()}.items()
    }


def _message(kind: MessageType, reference: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The schema of one message, and those that it refers to."""
    (stamp, payload), components = msgspec.json.schema_components((Stamp, DATA[kind]), ref_template=reference)
    surrounding = components.pop(Stamp.__name__)
    del stamp
    message = {
        "type": "object",
        "description": _SUMMARY[kind],
        "properties": {
            "v": {"const": WIRE_VERSION, "description": "The major number of the protocol."},
            "type": {"const": str(kind)},
            **surrounding["properties"],
            "data": payload,
        },
        "required": ["v", "type", *surrounding["required"], "data"],
    }
    return message, {name: _open(name, found) for name, found in sorted(components.items())}


def _open(name: str, found: dict[str, Any]) -> dict[str, Any]:
    """A list of words that may grow is no closed one for a receiver: it takes what it does not know too."""
    modules = (health, trading, key, money, stream)
    known = next((getattr(each, name) for each in modules if hasattr(each, name)), None)
    if not (isinstance(known, type) and issubclass(known, Enum) and "_missing_" in vars(known)):
        return found
    values = found.pop("enum")
    if isinstance(values[0], str):
        return {**found, "type": "string", "minLength": 1, "maxLength": MAX_WORD, "examples": values}
    return {**found, "type": "integer", "minimum": 0, "examples": values}


def _channel(address: str, kind: MessageType) -> dict[str, Any]:
    names = [name for name in _PARAMETERS if f"{{{name}}}" in address]
    channel: dict[str, Any] = {
        "address": address,
        "messages": {str(kind): {"$ref": f"#/components/messages/{kind}"}},
    }
    if address.startswith(("health/", "command/")):
        channel["servers"] = [{"$ref": "#/servers/health"}]
    if names:
        channel["parameters"] = {name: {"description": _described(name)} for name in names}
    return channel


def _described(name: str) -> str:
    return _PARAMETERS[name] if name in ("part", "id") else f"{_PARAMETERS[name]} It matches {NAME_PATTERN}."


def main(folder: Path) -> None:
    """Write the documents below this folder."""
    for path, text in documents().items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(text)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
