"""What the doors say about themselves, as one OpenAPI 3.1 document.

A door attaches its operations to its blueprint; the document is put together from all blueprints
of an app. Shapes are the msgspec types that requests are read into and answers are made of.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from sanic import Blueprint, Sanic

OPENAPI = "3.1.0"
REFERENCE = "#/components/schemas/{name}"
_PATH_PARAMETER = re.compile(r"{(\w+)}")


class Problem(msgspec.Struct, frozen=True):
    """What every error is answered with (RFC 9457)."""

    status: int
    code: str
    detail: str
    request_id: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A query argument or a header of an operation; `kind` is any type that msgspec knows."""

    name: str
    kind: Any
    about: str
    needed: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one path, such as `/shops/{id}`; `answer` None: there is no body.

    `problems` are the statuses of its own; what follows from a token, a body or the path is added.
    `others` are answers beside the good one that are no problem: status -> shape.
    """

    method: str
    path: str
    summary: str
    tag: str
    status: int = 200
    answer: Any = None
    body: Any = None
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()
    problems: tuple[int, ...] = ()
    bearer: bool = True
    media_type: str = "application/json"
    body_type: str = "application/json"
    others: Mapping[int, Any] = field(default_factory=dict)

    @property
    def path_parameters(self) -> tuple[str, ...]:
        """The names in the path's braces."""
        return tuple(_PATH_PARAMETER.findall(self.path))

    @property
    def route(self) -> str:
        """The path as Sanic writes it."""
        return _PATH_PARAMETER.sub(r"<\1:str>", self.path)


def attach(room: Blueprint, operations: Sequence[Operation]) -> None:
    """Say what a blueprint's routes are."""
    room.ctx.operations = tuple(operations)


def operations_of(app: Sanic[Any, Any]) -> list[Operation]:
    """All that the app's blueprints say about themselves, by path."""
    found = [
        operation
        for room in app.blueprints.values()
        for operation in getattr(room.ctx, "operations", ())
    ]
    return sorted(found, key=lambda operation: (operation.path, operation.method))


def document(title: str, version: str, operations: Sequence[Operation]) -> dict[str, Any]:
    """The OpenAPI document of these operations."""
    shapes = list(dict.fromkeys(_shapes(operations)))
    schemas, components = msgspec.json.schema_components(shapes, ref_template=REFERENCE)
    schema_of = dict(zip(shapes, schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        described = _operation(operation, schema_of)
        paths.setdefault(operation.path, {})[operation.method.lower()] = described
    return {
        "openapi": OPENAPI,
        "info": {"title": title, "version": version},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
    }


def _shapes(operations: Iterable[Operation]) -> Iterator[Any]:
    yield Problem
    for operation in operations:
        yield from (shape for shape in (operation.answer, operation.body) if shape is not None)
        yield from operation.others.values()
        yield from (one.kind for one in (*operation.query, *operation.headers))


def _operation(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": _identifier(operation),
        "summary": operation.summary,
        "tags": [operation.tag],
        "security": [{"bearer": []}] if operation.bearer else [],
        "parameters": [
            {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
            for name in operation.path_parameters
        ]
        + [_parameter(one, "query", schema_of) for one in operation.query]
        + [_parameter(one, "header", schema_of) for one in operation.headers],
        "responses": _responses(operation, schema_of),
    }
    if operation.body is not None:
        described["requestBody"] = {
            "required": True,
            "content": {operation.body_type: {"schema": schema_of[operation.body]}},
        }
    return described


def _identifier(operation: Operation) -> str:
    words = re.findall(r"\w+", f"{operation.tag} {operation.method.lower()} {operation.path}")
    return "_".join(words)


def _parameter(one: Parameter, place: str, schema_of: dict[Any, Any]) -> dict[str, Any]:
    return {
        "name": one.name,
        "in": place,
        "required": one.needed,
        "description": one.about,
        "schema": schema_of[one.kind],
    }


def _responses(operation: Operation, schema_of: dict[Any, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.summary}
    if operation.answer is not None:
        answer["content"] = {operation.media_type: {"schema": schema_of[operation.answer]}}
    responses = {str(operation.status): answer}
    problem = {"application/problem+json": {"schema": schema_of[Problem]}}
    for status in sorted(_problem_statuses(operation)):
        responses[str(status)] = {"description": PROBLEMS[status], "content": problem}
    for status, shape in sorted(operation.others.items()):
        content = {operation.media_type: {"schema": schema_of[shape]}}
        about = operation.summary if status < 400 else "Refused in the caller's form"
        responses[str(status)] = {"description": about, "content": content}
    responses["default"] = {"description": "Anything else that went wrong", "content": problem}
    return responses


PROBLEMS = {
    400: "The request cannot be understood",
    401: "No session, or one that has ended",
    403: "The caller's role does not allow this",
    404: "No such object, or somebody else's",
    409: "The state of the object does not allow this",
    413: "The body is too large",
    422: "Understood, and refused for what it says",
    429: "Too many tries: Retry-After says when to come back",
    502: "A peer answered wrongly",
    503: "Something outside did not answer; try again",
}


def _problem_statuses(operation: Operation) -> set[int]:
    statuses = set(operation.problems)
    if operation.bearer:
        statuses.add(401)
    if operation.path_parameters:
        statuses.add(404)
    if operation.body is not None:
        statuses |= {400, 413}
    if operation.body is not None or operation.query:
        statuses.add(422)
    return statuses
