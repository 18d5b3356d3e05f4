from __future__ import annotations

import itertools

import pytest

from gateway.core.events import WebhookOutcome
from gateway.core.targets import listed, spellings
from gateway.core.tenant import TenantPolicy
from gateway.core.webhook import (
    MAX_HOLD_S,
    RETRIES_S,
    Answer,
    Decision,
    answered,
    decide,
    new_secret,
)

DAY_S = 86_400
DOWN = Answer("unreachable")


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://hooks.example.com/x?y=1", ("hooks.example.com", "hooks.example.com:443")),
        ("http://hooks.example.com", ("hooks.example.com", "hooks.example.com:80")),
        ("HTTPS://Hooks.Example.COM:8443/", ("hooks.example.com:8443",)),
        ("https://hooks.example.com:443/", ("hooks.example.com", "hooks.example.com:443")),
        ("https://192.0.2.7?x", ("192.0.2.7", "192.0.2.7:443")),
        ("https://hooks.example.com:0/", ()),
        ("https://hooks.example.com:65536/", ()),
        ("https://hooks.example.com./", ()),
        ("https://hooks.example.com#@evil.example/", ()),
        ("https://user@hooks.example.com/", ()),
        ("https://hooks.example.com\\@evil.example/", ()),
        ("https://hooks.example.com/\\x", ()),
        ("https://hooks.example.com/ x", ()),
        ("https://hooks.example.com/\n", ()),
        ("https://[2001:db8::1]/", ()),
        ("https://hööks.example.com/", ()),
        ("https:///x", ()),
        ("ftp://hooks.example.com/", ()),
        ("https://hooks.example.com/" + 2048 * "a", ()),
    ],
)
def test_a_url_names_one_host_whoever_reads_it(url: str, hosts: tuple[str, ...]) -> None:
    """Whatever two parsers might read differently is no webhook's URL."""
    assert spellings(url) == hosts


@pytest.mark.parametrize(
    ("pattern", "url", "fits"),
    [
        ("hooks.example.com", "https://hooks.example.com/", True),
        ("hooks.example.com", "https://hooks.example.com:8443/", False),
        ("hooks.example.com:8443", "https://hooks.example.com:8443/", True),
        ("hooks.example.com:443", "https://hooks.example.com/", True),
        ("*.example.com", "https://a.b.example.com/", True),
        ("*.example.com", "https://example.com/", False),
        ("*.example.com", "https://evilexample.com/", False),
        ("*.example.com", "https://x.example.com.evil.example/", False),
        ("*.example.com:8443", "https://a.example.com:8443/", True),
    ],
)
def test_an_allow_list_names_hosts_and_what_is_below_them(pattern: str, url: str, fits: bool) -> None:
    """A pattern without a port means the scheme's own port; ``*.`` means at least one name more."""
    assert listed([pattern], url) is fits


def test_a_tenants_own_url_is_allowed_without_saying_so() -> None:
    """The host of the default target is on the list, and on an empty list nothing else is."""
    policy = TenantPolicy("team", webhook_url="https://hooks.example.com:8443/x", webhook_hosts=("*.example.org",))
    assert policy.allows_webhook("https://hooks.example.com:8443/other")
    assert policy.allows_webhook("https://a.example.org/")
    assert not policy.allows_webhook("https://hooks.example.com/")
    assert not TenantPolicy("team").allows_webhook("https://hooks.example.com/")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [(200, "delivered"), (204, "delivered"), (299, "delivered"), (301, "rejected"), (307, "rejected"),
     (400, "rejected"), (410, "gone"), (429, "rejected"), (500, "rejected")],
)  # fmt: skip
def test_only_2xx_counts_as_delivered(status: int, outcome: WebhookOutcome) -> None:
    """A redirect is an answer like any other that is not 2xx."""
    assert answered(status) == Answer(outcome, status)


@pytest.mark.parametrize(
    ("answer", "attempt", "decision"),
    [
        (Answer("delivered", 204), 1, Decision("delivered")),
        (Answer("gone", 410), 1, Decision("failed")),
        (Answer("refused"), 1, Decision("failed")),
        (Answer("rejected", 500), 1, Decision("pending", 5)),
        (Answer("rejected", 503), 1, Decision("pending", 5, hold_s=5)),
        (Answer("rejected", 429), 2, Decision("pending", 30, hold_s=10)),
        (Answer("rejected", 302), 3, Decision("pending", 120)),
        (Answer("timeout"), 3, Decision("pending", 120, hold_s=20)),
        (DOWN, 4, Decision("pending", 600, hold_s=40)),
        (DOWN, 8, Decision("pending", 12 * 3600, hold_s=60)),
        (DOWN, 9, Decision("failed", hold_s=60)),
        (Answer("error"), 9, Decision("failed")),
    ],
)
def test_what_follows_from_an_answer(answer: Answer, attempt: int, decision: Decision) -> None:
    """Retries back off; 410 and forbidden targets end it; a receiver in trouble is left in peace."""
    assert decide(answer, attempt, latency_s=0.1, jitter=0) == decision


def test_retries_last_for_most_of_a_day() -> None:
    """A receiver that is down overnight still gets its webhooks; each pause is longer than the last."""
    assert 20 * 3600 < sum(RETRIES_S) < DAY_S < 1.2 * sum(RETRIES_S) + DAY_S / 8
    assert all(longer > pause for pause, longer in itertools.pairwise(RETRIES_S))


def test_jitter_lengthens_a_pause_by_a_fifth_at_most() -> None:
    """Jitter never makes an attempt earlier."""
    pauses = {decide(DOWN, 4, latency_s=0.1, jitter=jitter).retry_s for jitter in (0.0, 0.5, 1.0)}
    assert pauses == {600, 660, 720}


def test_a_receiver_is_never_held_longer_than_its_only_delivery_pauses() -> None:
    """The rest that a receiver is given delays other deliveries, never the next attempt at the same one."""
    for attempt in range(1, len(RETRIES_S) + 1):
        decision = decide(DOWN, attempt, latency_s=15, jitter=0)
        assert 0 < decision.hold_s <= min(decision.retry_s, MAX_HOLD_S)


def test_a_slow_receiver_is_given_a_rest() -> None:
    """An answer that took long is followed by a pause, even where it was 2xx."""
    assert decide(Answer("delivered", 200), 1, latency_s=9, jitter=0) == Decision("delivered", hold_s=5)


def test_secrets_are_long_and_of_the_standards_form() -> None:
    """A secret has the prefix and 24 to 64 bytes, and no two are equal."""
    one, two = new_secret(), new_secret()
    assert one != two
    assert one.reveal().startswith("whsec_")
    assert len(one.reveal()) == len("whsec_") + 44
