"""HTTP Archive 1.2 as a JSON schema, after the specification (http://www.softwareishard.com/blog/har-12-spec/)."""

from __future__ import annotations

from typing import Any

import jsonschema

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
SIZE: Schema = {"type": "integer", "minimum": -1}
MILLISECONDS: Schema = {"type": "number", "minimum": -1}


def entity(required: Schema, **optional: Schema) -> Schema:
    """An object with these members. Others are allowed if their names begin with an underscore."""
    members = required | optional | {"comment": TEXT}
    return {
        "type": "object",
        "required": sorted(required),
        "properties": members,
        "patternProperties": {"^_": {}},
        "additionalProperties": False,
    }


def several(of: Schema) -> Schema:
    return {"type": "array", "items": of}


PAIR = entity({"name": TEXT, "value": TEXT})
COOKIE = entity(
    {"name": TEXT, "value": TEXT},
    path=TEXT,
    domain=TEXT,
    expires=TEXT,
    httpOnly={"type": "boolean"},
    secure={"type": "boolean"},
)
MESSAGE: Schema = {
    "httpVersion": TEXT,
    "cookies": several(COOKIE),
    "headers": several(PAIR),
    "headersSize": SIZE,
    "bodySize": SIZE,
}
REQUEST = entity(
    MESSAGE
    | {
        "method": TEXT,
        "url": {"type": "string", "pattern": "^[a-z]+://[^/]+/"},
        "queryString": several(PAIR),
    },
    postData=entity({"mimeType": TEXT, "params": several(PAIR), "text": TEXT}, encoding={"const": "base64"}),
)
RESPONSE = entity(
    MESSAGE
    | {
        "status": {"type": "integer", "minimum": 0},
        "statusText": TEXT,
        "redirectURL": TEXT,
        "content": entity({"size": {"type": "integer"}, "mimeType": TEXT}, text=TEXT, encoding={"const": "base64"}),
    }
)
TIMINGS = entity(
    {"send": {"type": "number", "minimum": 0}, "wait": {"type": "number", "minimum": 0}, "receive": MILLISECONDS},
    blocked=MILLISECONDS,
    dns=MILLISECONDS,
    connect=MILLISECONDS,
    ssl=MILLISECONDS,
)
ENTRY = entity(
    {
        "startedDateTime": {
            "type": "string",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+([+-]\d\d:\d\d|Z)$",
        },
        "time": {"type": "number", "minimum": 0},
        "request": REQUEST,
        "response": RESPONSE,
        "cache": {"type": "object"},
        "timings": TIMINGS,
    },
    serverIPAddress=TEXT,
    connection=TEXT,
)
HAR = entity(
    {
        "log": entity(
            {"version": {"const": "1.2"}, "creator": entity({"name": TEXT, "version": TEXT}), "entries": several(ENTRY)}
        )
    }
)


def check(archive: Any) -> list[Any]:
    """The entries of a HAR file. Raises ValidationError if it is none."""
    jsonschema.validate(archive, HAR)
    for entry in archive["log"]["entries"]:
        legs = sum(value for name, value in entry["timings"].items() if value > 0 and name not in ("ssl", "comment"))
        assert abs(entry["time"] - legs) < 0.001, "`time` is the sum of the timings"
    entries: list[Any] = archive["log"]["entries"]
    return entries
