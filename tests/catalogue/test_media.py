from __future__ import annotations

import pytest

from gateway.catalogue.media import check_media, media_names, refusal
from gateway.errors import InvalidRequest


@pytest.mark.parametrize(
    "url",
    [
        "https://segmind-resources.s3.amazonaws.com/a%20b.mp4?x=1@2#f",
        "HTTPS://cdn.example.com:8443/ü.png",
        "https://8.8.8.8/a.png",
        "https://[2606:4700::1111]/a.png",
        "https://1password.com",
        "https://example.com",
        "data:image/png;base64,AAAA",
        "",
    ],
)
def test_public_urls_and_inline_images_pass(url: str) -> None:
    """What the vendor can fetch from the public internet is the tenant's own affair."""
    assert refusal(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a.png",
        "file:///etc/passwd",
        "gopher://example.com/",
        "//example.com/a",
        "/etc/passwd",
        " https://example.com",
        "https:example.com",
        "https://",
        "https:///a",
        "https://exa mple.com/",
        "https://example.com/a\r\nHost: x",
        "https://example.com\\@127.0.0.1/",
        "https://user@example.com/",
        "https://user:pw@example.com/",
        "https://exämple.com/",
        "https://\uff11\uff12\uff17.0.0.1/",
        "https://example.com:80:80/",
        "https://%31%32%37.0.0.1/",
        "data:text/html;base64,AAAA",
        "data:image/png",
    ],
)
def test_other_schemes_credentials_and_odd_spellings_are_refused(url: str) -> None:
    """Only https, no user name, and nothing that two parsers could read differently."""
    assert refusal(url)


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "127.0.0.1",
        "127.0.0.1.",
        "127.0.0.1..",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "100.64.0.1",
        "0.0.0.0",  # noqa: S104 refused here, bound nowhere
        "224.0.0.1",
        "255.255.255.255",
        "2852039166",
        "0xA9FEA9FE",
        "0xa9.0xfe.0xa9.0xfe",
        "0251.0376.0251.0376",
        "169.254.43518",
        "127.1",
        "8.8.8.08",
        "0x",
        "[::1]",
        "[::]",
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[::169.254.169.254]",
        "[64:ff9b::a9fe:a9fe]",
        "[64:ff9b:1::a9fe:a9fe]",
        "[2002:a9fe:a9fe::1]",
        "[2001:0:4136:e378:8000:63bf:3fff:fdd2]",
        "[fe80::1]",
        "[fc00::1]",
        "[fec0::1]",
        "[ff02::1]",
        "[2001:db8::1]",
        "[8.8.8.8]",
        "localhost",
        "LOCALHOST",
        "a.localhost",
        "metadata.google.internal",
        "printer.local",
        "intranet",
    ],
)
def test_hosts_that_are_not_public_are_refused_in_every_spelling(host: str) -> None:
    """Private, loopback and link-local addresses, also in decimal, hex, octal, mapped, NAT64 and 6to4 form."""
    assert refusal(f"https://{host}/latest/meta-data") == "must point to a public host"


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"image_url": "http://x.example"}, "image_url"),
        ({"image_urls": ["https://x.example", "http://x.example"]}, "image_urls[1]"),
        ({"imageUrl": "http://x.example"}, "imageUrl"),
        ({"url": "http://x.example"}, "url"),
        ({"reference_url_2": "http://x.example"}, "reference_url_2"),
        (
            {"messages": [{"content": [{"image_url": {"url": "http://x.example"}}]}]},
            "messages[0].content[0].image_url.url",
        ),
        ({"face": "http://x.example"}, "face"),
        ({"deep": {"faces": ["http://x.example"]}}, "deep.faces[0]"),
        ({"image_url": 7, "curl": "http://x.example", "prompt": "see http://127.0.0.1"}, None),
        ({"image_url": {"detail": "auto"}}, None),
    ],
)
def test_urls_are_looked_for_by_name_and_by_schema_at_any_depth(params: dict[str, object], field: str | None) -> None:
    """Properties called like a URL, or of the format `uri`, are checked; prose is not."""
    names = media_names(
        {
            "properties": {"face": {"format": "uri"}},
            "$defs": {"x": {"properties": {"faces": {"type": "array", "items": {"format": "uri"}}}}},
        }
    )
    if field is None:
        check_media(params, names)
        return
    with pytest.raises(InvalidRequest) as caught:
        check_media(params, names)
    assert caught.value.field == field
    assert "x.example" not in caught.value.detail
