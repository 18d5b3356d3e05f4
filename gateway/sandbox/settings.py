"""What a sandbox is started with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path

_KEY = re.compile(r"SG_[0-9a-f]{16}")


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxSettings:
    """Configure one sandbox; the vendor's figures are the defaults.

    Attributes:
        api_keys: Keys of the one account that is played, ``SG_`` + 16 hex digits each.
        seed: Fixes costs, latencies and outcomes by the order in which jobs are accepted.
        time_scale: How many times faster than the vendor jobs run and records expire (60: a minute takes a second).
        balance: Credits of the account at the start.
        failure_rate: Share of jobs that end FAILED, 0-1.
        record_path: Oracle: one JSON line per accepted billable POST, written and synced before the answer leaves.
        record_ttl_s: Seconds (before scaling) for which the vendor keeps a job's record.
        file_ttl_s: Seconds (before scaling) for which the vendor keeps an output file.
        rate_limit_rpm: Billable POSTs a minute for the account; None: no limit. Not scaled.
        history_delay_s: Seconds until a request shows up in the request history. Not scaled.
        kept_jobs: Jobs held in memory; the oldest are forgotten beyond it.
        kept_calls: Received calls held in memory for ``/_sandbox/calls``.

    Raises:
        ValueError: A value is out of its range.
    """

    api_keys: tuple[str, ...] = ("SG_5a4db0c5e9000001",)
    seed: int = 1
    time_scale: float = 1.0
    balance: Decimal = Decimal(1000)
    failure_rate: float = 0.0
    record_path: Path | None = None
    record_ttl_s: float = 3600.0
    file_ttl_s: float = 7 * 86400.0
    rate_limit_rpm: int | None = None
    history_delay_s: float = 0.0
    kept_jobs: int = 50_000
    kept_calls: int = 10_000

    def __post_init__(self) -> None:
        if not self.api_keys or not all(_KEY.fullmatch(key) for key in self.api_keys):
            raise ValueError("api_keys: each key is SG_ and 16 lower-case hex digits")
        if not self.balance.is_finite():
            raise ValueError("balance: a finite number of credits")
        if not 0 <= self.failure_rate <= 1:
            raise ValueError("failure_rate: between 0 and 1")
        positive = {
            "time_scale": self.time_scale,
            "record_ttl_s": self.record_ttl_s,
            "file_ttl_s": self.file_ttl_s,
            "rate_limit_rpm": 1 if self.rate_limit_rpm is None else self.rate_limit_rpm,
            "kept_jobs": self.kept_jobs,
            "kept_calls": self.kept_calls,
        }
        wrong = [name for name, value in positive.items() if not value > 0]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}: greater than zero")
        if self.history_delay_s < 0:
            raise ValueError("history_delay_s: not negative")
