"""The server against its own description: random requests, good and bad, by schemathesis."""

from __future__ import annotations

import hypothesis
import pytest

schemathesis = pytest.importorskip("schemathesis", reason="not installed: pip install schemathesis")
checks = pytest.importorskip("schemathesis.specs.openapi.checks")

EXAMPLES = 50
ROUTES = (
    "GET /healthz",
    "GET /metrics",
    "GET /api/model",
    "POST /api/predict",
    "GET /api/pictures/{token}.png",
    "GET /api/samples",
    "GET /api/samples/random",
    "GET /api/samples/{image_id}",
    "GET /api/samples/{image_id}/picture.png",
    "GET /api/heatmap",
)
# Of these, values of another shape can be sent.
SHAPED = ("POST /api/predict", "GET /api/samples", "GET /api/samples/random", "GET /api/heatmap")
# What OpenAPI can't say: that bytes are an image, and that a picture goes by one of two names.
NARROWER = ("POST /api/predict", "GET /api/heatmap")


def operations(client) -> dict:
    schema = schemathesis.openapi.from_url(f"{client.base_url}/openapi.json")
    found = [result.ok() for result in schema.get_all_operations()]
    return {operation.label: operation for operation in found}


def test_all_routes_are_described(client):
    assert sorted(operations(client)) == sorted(ROUTES)


def ask(operation, mode, excluded=()) -> None:
    @hypothesis.settings(max_examples=EXAMPLES, suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(case=operation.as_strategy(generation_mode=mode))
    def one(case) -> None:
        case.call_and_validate(excluded_checks=excluded)

    one()


@pytest.mark.parametrize("route", ROUTES)
def test_what_the_description_allows_is_answered_as_it_says(client, route):
    excluded = [checks.positive_data_acceptance] if route in NARROWER else []
    ask(operations(client)[route], schemathesis.GenerationMode.POSITIVE, excluded)


@pytest.mark.parametrize("route", SHAPED)
def test_what_the_description_forbids_is_refused_as_it_says(client, route):
    ask(operations(client)[route], schemathesis.GenerationMode.NEGATIVE)
