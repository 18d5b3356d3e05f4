"""When to ask the vendor about a job: pure functions of its age and its expected latency."""

from __future__ import annotations

FIRST_POLL_S = 1.5
MIN_INTERVAL_S = 1.0
MAX_INTERVAL_S = 15.0
VENDOR_TTL_S = 3600.0
URGENT_AFTER_S = 3000.0
"""From this age on, a job goes before all others: the vendor drops its record at `VENDOR_TTL_S`."""
LAST_CALL_AFTER_S = VENDOR_TTL_S - 60.0
"""From this age on, a result that can't be fetched is given up: the cost that the vendor told is charged meanwhile."""
OVERDUE_FACTOR = 3.0
FAILURE_MIN_S = 5.0
FAILURE_MAX_S = 60.0

_SHARE = 0.05
_LATE_SHARE = 0.2
_NEARLY_DONE = 0.8
_SPREAD = 0.1


def next_poll_s(age_s: float, expected_s: float, late_s: float = 0.0) -> float:
    """Return the seconds to wait before the next poll of a job.

    A twentieth of what is left, or of a fifth of the whole once it is overdue, between 1 and 15 s: about 54
    polls for a job of 425 s.

    When the fleet polls more slowly than it should (`upstream_poll_rps`), every job comes late by the same time. One
    that is nearly done, or near the vendor's hour, asks for its next turn earlier by as much: it is stretched last.

    Args:
        age_s: Seconds since submission.
        expected_s: Latency that is expected of the model, seconds.
        late_s: By how much this poll came late.
    """
    wanted = _SHARE * max(expected_s - age_s, _LATE_SHARE * expected_s)
    interval = min(max(wanted, MIN_INTERVAL_S), MAX_INTERVAL_S)
    if age_s >= min(_NEARLY_DONE * expected_s, URGENT_AFTER_S):
        return max(interval - max(late_s, 0.0), MIN_INTERVAL_S)
    return interval


def spread_s(interval_s: float, job_id: str) -> float:
    """Make an interval up to a tenth longer or shorter, always the same for a job, and a second at least.

    Jobs that were submitted together are not polled together for long.
    """
    part = int(job_id[-8:-4], 16) / 0xFFFF
    return max(interval_s * (1 - _SPREAD + 2 * _SPREAD * part), MIN_INTERVAL_S)


def retry_poll_s(age_s: float, unconfirmed_s: float) -> float:
    """Return the seconds to wait after a poll that failed: half as long again as the vendor has been silent.

    That is exponential without anything being counted, from 5 to 60 s; 15 s where the vendor's hour is near.

    Args:
        age_s: Seconds since submission.
        unconfirmed_s: Seconds since the vendor last said anything of the job.
    """
    longest_s = MAX_INTERVAL_S if age_s >= URGENT_AFTER_S else FAILURE_MAX_S
    return min(max(0.5 * unconfirmed_s, FAILURE_MIN_S), longest_s)


def overdue_level(age_s: float, expected_s: float) -> int:
    """Tell how overdue a job is: 1 from three times the expected latency on, 2 from 50 minutes on, else 0."""
    if age_s >= URGENT_AFTER_S:
        return 2
    return int(age_s >= OVERDUE_FACTOR * expected_s)
