"""What a person may be told of."""

from __future__ import annotations

from typing import Literal

AlertName = Literal[
    "adoption.failed",
    "background.failed",
    "http.internal_error",
    "job.adopted",
    "job.cost_estimated",
    "job.expired",
    "job.overdue",
    "job.record_lost",
    "job.released",
    "job.result_lost",
    "job.settle_failed",
    "job.taken_late",
    "job.unknown",
    "outbox.dropped",
    "reconcile.drift",
    "reconcile.failed",
    "rules.unreadable",
    "store.not_ready",
    "store.ready",
    "store.rewound",
    "store.subscription_lost",
    "sweep.failed",
    "tracker.failed",
    "tracker.repaired",
    "tracing.failed",
    "upstream.auth_failed",
    "upstream.credits_exhausted",
    "upstream.key_unreadable",
    "upstream.team_limit",
    "webhook.disabled",
    "webhook.error",
    "webhook.failed",
]
"""Every alert there is. The names are stable: `docs/telemetry.md` explains each, and rules are written on them."""
