from __future__ import annotations

import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from types import MappingProxyType
from typing import Any

import pytest

from gateway.catalogue import Catalogue, ModelInfo, ModelOverride, load_catalogue
from gateway.core.credits import NANO
from gateway.core.tenant import MODEL
from gateway.errors import InvalidRequest

KLING = "kling-2.6-standard-motion-control"


def refused(params: dict[str, Any], model: str = KLING) -> InvalidRequest:
    """Return the refusal of parameters that the shipped catalogue does not take."""
    with pytest.raises(InvalidRequest) as caught:
        load_catalogue().check(model, params)
    return caught.value


def test_the_shipped_models_have_the_vendors_figures() -> None:
    """Prices are the listed averages, latencies the upper end of the listed range."""
    catalogue = load_catalogue()
    assert len(list(catalogue.models())) == 18
    assert all(MODEL.fullmatch(model.slug) for model in catalogue.models())
    kling, mock = catalogue.find(KLING), catalogue.find("mock-inference")
    assert kling is not None
    assert (kling.kind, kling.price_nano, kling.expected_latency_s) == ("video to video", 941_500_000, 608)
    assert mock is not None
    assert mock.price_nano is None
    assert catalogue.find("no-such-model") is None


@pytest.mark.parametrize("model", [KLING, "kling-2.6-pro-motion-control"])
def test_the_vendors_own_example_passes(model: str) -> None:
    """Unknown parameters pass too: the vendor may have more than its documentation says."""
    load_catalogue().check(
        model,
        {
            "prompt": "cat and dog are dancing.",
            "image_url": "https://segmind-resources.s3.amazonaws.com/input/a.png",
            "video_url": "https://segmind-resources.s3.amazonaws.com/input/b.mp4",
            "character_orientation": "video",
            "keep_original_sound": True,
            "brand_new": 1,
        },
    )


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({}, "prompt"),
        ({"prompt": 5}, "prompt"),
        ({"prompt": "hunter2", "character_orientation": "hunter2"}, "character_orientation"),
        ({"prompt": "hunter2", "keep_original_sound": "hunter2"}, "keep_original_sound"),
        ({"prompt": "hunter2", "image_url": ["hunter2"]}, "image_url"),
        ({"prompt": "hunter2", "video_url": "hunter2"}, "video_url"),
    ],
)
def test_a_wrong_parameter_is_named_and_never_quoted(params: dict[str, Any], field: str) -> None:
    """The caller learns which field is wrong and why, in one short line without its own value."""
    error = refused(params)
    assert error.field == field
    assert field in error.detail
    assert "hunter2" not in error.detail
    assert len(error.detail) <= 200


def test_a_missing_prompt_reads_plainly() -> None:
    """The most common mistake has the plainest message."""
    assert refused({}).detail == "prompt is required"


def test_nested_and_forbidden_properties_are_named_by_their_path() -> None:
    """The path leads to the item of a list, and to the property that a strict schema does not know."""
    schema = {"additionalProperties": False, "properties": {"sizes": {"items": {"type": "integer"}}}}
    catalogue = Catalogue([ModelInfo("m", schema=schema)])
    for params, field in (({"sizes": [1, "x"]}, "sizes[1]"), ({"colour": 1}, "colour")):
        with pytest.raises(InvalidRequest) as caught:
            catalogue.check("m", params)
        assert caught.value.field == field


def test_the_url_policy_holds_for_unknown_models_and_can_be_lifted() -> None:
    """`public_https` is the default for every model; `any` leaves URLs to the vendor."""
    params = {"image_url": "http://169.254.169.254/"}
    assert refused(params, model="no-such-model").field == "image_url"
    load_catalogue().with_overrides([], media_urls="any").check("no-such-model", params)


def test_overrides_make_a_new_catalogue() -> None:
    """A price put over a model keeps the rest of it; the catalogue it came from stays as it was."""
    shipped = load_catalogue()
    changed = shipped.with_overrides([ModelOverride(KLING, price_nano=2 * NANO), ModelOverride("mine", kind="image")])
    old, new, mine = shipped.find(KLING), changed.find(KLING), changed.find("mine")
    assert old is not None
    assert new is not None
    assert (old.price_nano, new.price_nano) == (941_500_000, 2 * NANO)
    assert (new.schema, new.expected_latency_s) == (old.schema, old.expected_latency_s)
    assert mine == ModelInfo("mine", kind="image")
    assert shipped.find("mine") is None


def test_parameters_may_be_any_mapping() -> None:
    """A read-only view of the parameters is checked like a dict."""
    load_catalogue().check(KLING, MappingProxyType({"prompt": "x"}))


def test_a_schema_is_never_fetched() -> None:
    """A reference to another document is an error of the schema, not a request from the gateway."""
    asked = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.set()
            self.send_error(404)

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            with pytest.raises(ValueError, match="refer"):
                Catalogue([ModelInfo("m", schema={"$ref": f"http://127.0.0.1:{server.server_port}/s.json"})])
        finally:
            server.shutdown()
            thread.join()
    assert not asked.is_set()
