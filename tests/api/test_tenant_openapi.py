"""The document describes every route, and nothing that is not there."""

import re
from typing import Any

import jsonschema
import pytest

from miniprogram_api.routes import DOCUMENT_PATH, PREFIX, ROUTES
from server.http.openapi import Operation, document
from tests.fakes.town import Town

CONTRACT = {
    ("post", "/sessions"),
    ("delete", "/sessions"),
    ("get", "/shop-tokens/{token}"),
    ("post", "/bindings"),
    ("get", "/shops"),
    ("get", "/shops/{id}"),
    ("post", "/shops/{id}/reconnect-confirmations"),
    ("post", "/shops/{id}/emergency-credit"),
    ("delete", "/shops/{id}/binding"),
    ("get", "/shops/{id}/usage"),
    ("get", "/shops/{id}/statements"),
    ("get", "/shops/{id}/statements/{day}"),
    ("get", "/shops/{id}/transactions"),
    ("post", "/shops/{id}/top-ups"),
    ("get", "/top-ups/{top_up_no}"),
    ("post", "/top-ups/{top_up_no}/attempts"),
    ("post", "/top-ups/{top_up_no}/close"),
}


async def fetch(town: Town) -> dict[str, Any]:
    answer = await town.client.get(DOCUMENT_PATH)
    assert answer.status_code == 200
    found: dict[str, Any] = answer.json()
    return found


async def test_the_document_names_every_call_of_the_contract(lasting_town: Town) -> None:
    paths = (await fetch(lasting_town))["paths"]
    described = {(method, path) for path, methods in paths.items() for method in methods}
    assert described == {(method, PREFIX + path) for method, path in CONTRACT}


async def test_every_reference_leads_somewhere_and_every_schema_is_one(lasting_town: Town) -> None:
    found = await fetch(lasting_town)
    assert found["openapi"] == "3.1.0"
    schemas = found["components"]["schemas"]
    names = set(re.findall(r'"#/components/schemas/(\w+)"', str(found).replace("'", '"')))
    assert names
    assert names <= set(schemas)
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)


async def test_operations_have_names_of_their_own(lasting_town: Town) -> None:
    operations = [
        one for methods in (await fetch(lasting_town))["paths"].values() for one in methods.values()
    ]
    assert len({one["operationId"] for one in operations}) == len(operations) == len(ROUTES)
    assert all(one["summary"] and not one["summary"].endswith(".") for one in operations)


@pytest.mark.parametrize(
    ("facts", "statuses"),
    [
        pytest.param({}, {"200", "401", "default"}, id="a token is needed"),
        pytest.param({"bearer": False}, {"200", "default"}, id="open to all"),
        pytest.param(
            {"path": "/a/{b}", "bearer": False}, {"200", "404", "default"}, id="an object"
        ),
        pytest.param(
            {"body": int, "bearer": False, "status": 201, "problems": (409,)},
            {"201", "400", "409", "413", "422", "default"},
            id="a body",
        ),
    ],
)
def test_problems_follow_from_what_a_call_takes(facts: dict[str, Any], statuses: set[str]) -> None:
    operation = Operation(**{"method": "GET", "path": "/a", "summary": "-", "tag": "t", **facts})
    described = document("x", "1", [operation])["paths"][operation.path]["get"]
    assert set(described["responses"]) == statuses
