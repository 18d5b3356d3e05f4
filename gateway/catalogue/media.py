"""Which URLs a model's parameters may carry: a pure check of the text, which resolves no name.

The vendor fetches these URLs, not the gateway; the policy keeps tenants from making it fetch what is not public,
in any of the spellings that URL parsers accept for an address (WHATWG URL, section 3.5, "ends in a number").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Any

from gateway.core.addresses import is_public
from gateway.errors import InvalidRequest

_NAMED_URL = re.compile(r"(?:^|[_-])urls?(?:[_-]?[0-9]+)?$|[a-z0-9]U(?:rl|RL)s?$", re.ASCII)
_DATA_IMAGE = re.compile(r"data:image/[a-z0-9.+-]+[;,]", re.ASCII | re.IGNORECASE)
_HTTPS = re.compile(r"https://(?P<authority>[^/?#\\]*)", re.ASCII | re.IGNORECASE)
_AUTHORITY = re.compile(r"(?:\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[a-z0-9._-]+))(?::[0-9]{0,5})?", re.ASCII | re.IGNORECASE)
_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f\\]")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.ASCII)
_PRIVATE_SUFFIXES = (".localhost", ".local", ".localdomain", ".internal", ".intranet", ".lan", ".home.arpa")


def media_names(schema: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of a schema's properties, at any depth, whose values or items have the format ``uri``."""
    return frozenset(_uri_properties(schema))


def check_media(params: Mapping[str, Any], names: frozenset[str]) -> None:
    """Refuse parameters that carry a URL which is not a public https one.

    Looked at are the properties in ``names`` and all called ``url``, ``*_url`` or ``*_urls``. An image may also be a
    ``data:image/`` URL; an empty text means no media.

    Raises:
        InvalidRequest: Names the first offending field; never quotes the value.
    """
    for path, url in _urls(params, "", names, inside=False):
        problem = refusal(url)
        if problem:
            raise InvalidRequest(f"{path} {problem}", field=path)


def refusal(url: str) -> str | None:
    """Say what keeps ``url`` from being a public https URL or an inline image; None if nothing does."""
    if not url or _DATA_IMAGE.match(url):
        return None
    match = _HTTPS.match(url)
    if match is None or _UNPRINTABLE.search(url):
        return "must be an https URL"
    if "@" in match["authority"]:
        return "must not carry a user name or password"
    host = _AUTHORITY.fullmatch(match["authority"])
    if host is None:
        return "must be an https URL"
    public = _public_v6(host["v6"]) if host["v6"] else _public_name(host["name"].lower())
    return None if public else "must point to a public host"


def _public_name(host: str) -> bool:
    """Tell whether a name or IPv4 address may be public; any numeric spelling but the dotted one is refused."""
    host = host.rstrip(".")
    if _NUMBER.fullmatch(host.rpartition(".")[2]):
        try:
            return is_public(IPv4Address(host))
        except AddressValueError:
            return False
    return "." in host and not host.endswith(_PRIVATE_SUFFIXES)


def _public_v6(host: str) -> bool:
    try:
        return is_public(IPv6Address(host))
    except AddressValueError:
        return False


def _uri_properties(schema: object) -> Iterator[str]:
    if isinstance(schema, list):
        for part in schema:
            yield from _uri_properties(part)
    if not isinstance(schema, Mapping):
        return
    properties = schema.get("properties")
    if isinstance(properties, Mapping):
        yield from (name for name, value in properties.items() if _is_uri(value))
    for part in schema.values():
        yield from _uri_properties(part)


def _is_uri(schema: object) -> bool:
    if not isinstance(schema, Mapping):
        return False
    return schema.get("format") == "uri" or _is_uri(schema.get("items"))


def _urls(value: object, path: str, names: frozenset[str], *, inside: bool) -> Iterator[tuple[str, str]]:
    """Yield path and text of each URL; ``inside`` a field that holds URLs, lists and texts are looked into."""
    if isinstance(value, str):
        if inside:
            yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from _urls(item, f"{path}[{index}]", names, inside=inside)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            media = name in names or _NAMED_URL.search(name) is not None
            if media or isinstance(item, list | Mapping):
                yield from _urls(item, f"{path}.{name[:64]}".removeprefix("."), names, inside=media)
