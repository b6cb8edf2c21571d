"""`GET /openapi.json`: the OpenAPI 3.1 description of the admin interface, made from the table of its routes.

It tells what every sidecar of this version can do, and no name of this one's configuration: a browser gets it without the
token.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sidecar.control.admin.asking import MAX_BODY
from sidecar.control.admin.endpoint import Endpoint, Param
from sidecar.control.admin.problem import PROBLEM_JSON
from sidecar.version import VERSION

__all__ = ["description"]

_PROBLEM = {
    "type": "object",
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "One word for programs."},
        "lines": {
            "type": "array",
            "items": {"type": "string"},
            "description": "What is wrong with a configuration, as `sidecar check` says it.",
        },
    },
    "required": ["type", "title", "status", "detail", "code"],
}

_REASONS = {
    "400": "The query or the body is not right, and the detail says how.",
    "401": "The token is missing, or is another one.",
    "403": "It was sent by a page of another site.",
    "404": "There is nothing of this name.",
    "405": "The path takes other methods.",
    "408": "The body came too slowly.",
    "413": f"The body has more than {MAX_BODY >> 10} KiB.",
    "415": "A change without a token needs `Content-Type: application/json`.",
    "421": "This listener does not go by that `Host`.",
    "500": "A fault in the sidecar.",
    "503": "It is asked for too often.",
}
_OF_ALL = ("400", "401", "403", "404", "405", "421", "500")
_OF_CHANGES = ("408", "413", "415")

_NAME = re.compile(r"\{(\w+)\}")


def description(endpoints: Sequence[Endpoint]) -> dict[str, Any]:
    """Give the description of all endpoints."""
    paths: dict[str, dict[str, Any]] = {}
    for endpoint in endpoints:
        paths.setdefault(endpoint.path, {})[endpoint.method.lower()] = _operation(endpoint)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sidecar admin",
            "version": VERSION,
            "description": "What is in force in depth, and changes to it. Times of the day are Unix time in seconds.",
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": {"Problem": _PROBLEM},
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "`admin.token` of the configuration, where it has one.",
                }
            },
        },
    }


def _operation(endpoint: Endpoint) -> dict[str, Any]:
    names = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _NAME.findall(endpoint.path)
    ]
    operation: dict[str, Any] = {
        "summary": endpoint.summary,
        "operationId": _operation_id(endpoint),
        "parameters": [*names, *map(_parameter, endpoint.query)],
        "responses": _responses(endpoint),
    }
    if not endpoint.is_open:
        operation["security"] = [{}, {"token": []}]
    if endpoint.action is not None:
        operation["requestBody"] = {
            "required": any(each.required for each in endpoint.body),
            "content": {"application/json": {"schema": _body(endpoint.body)}},
        }
    return operation


def _operation_id(endpoint: Endpoint) -> str:
    return "_".join([endpoint.method.lower(), *re.findall(r"\w+", endpoint.path)])


def _parameter(param: Param) -> dict[str, Any]:
    schema: Mapping[str, Any] = param.schema
    if param.repeated:
        schema = {"type": "array", "items": param.schema}
    return {
        "name": param.name,
        "in": "query",
        "required": param.required,
        "description": param.text,
        "schema": schema,
    }


def _body(params: Sequence[Param]) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": "object",
        "properties": {each.name: {**each.schema, "description": each.text} for each in params},
        "additionalProperties": False,
    }
    if required := [each.name for each in params if each.required]:
        schema["required"] = required
    return schema


def _responses(endpoint: Endpoint) -> dict[str, Any]:
    content = {media: {"schema": endpoint.answer if "json" in media else {}} for media in endpoint.media}
    responses: dict[str, Any] = {"200": {"description": "As asked.", "content": content}}
    problem = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    statuses = _OF_ALL + (_OF_CHANGES if endpoint.action is not None else ())
    for status in (*statuses, *(("503",) if "text/event-stream" in endpoint.media else ())):
        responses[status] = {"description": _REASONS[status], "content": problem}
    return responses
