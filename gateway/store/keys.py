"""The key schema. Everything of one tenant shares the hash tag ``{tenant}`` and so one slot of a cluster.

============================  =======  ==========================================================================
key                           type     holds
============================  =======  ==========================================================================
``{t}:tenant``                hash     policy that admission decides by (fields: `store.tenants`)
``{t}:keys``                  set      ids of the tenant's API keys
``{t}:key:<key id>``          hash     digest, name, created, expires, revoked, used
``{t}:gcra:<limit>``          string   theoretical arrival time, microseconds
``{t}:budget``                hash     ``<window>:spent`` and ``<window>:held`` in nanocredits; ``seq`` of the ledger
``{t}:ledger``                stream   one entry a movement of money, append-only; the oldest are folded
``{t}:opening``               hash     what folded entries came to: as ``budget``, ``job:<id>`` of holds; ``last`` id
``{t}:usage:<day or month>``  hash     ``<key id>/<model>`` -> counts (`core.usage`); for 400 days
``{t}:adjusted:<job id>``     string   what a job is charged since an adjustment, for 60 days
``{t}:alerts``                hash     budget alerts: the last of each window, and those yet to be told
``{t}:job:<job id>``          hash     the job's record (`store.records`)
``{t}:result:<job id>``       hash     body, type, packed (`store.bodies`); expires after ``result_ttl``
``{t}:jobs``                  zset     job ids by creation, ms
``{t}:active``                zset     jobs whose hold stands, by creation, ms: the concurrency slots
``{t}:sending``               hash     jobs without a vendor's id: SENDING -> id of the process, UNKNOWN -> ``?``
``{t}:upstream:<vendor id>``  string   job that has this vendor's id, for 32 days
``{t}:idem:<digest>``         hash     job and fingerprint of an idempotency key, for 72 h
``{t}:owed``                  zset     webhooks to be sent: ``receiver/job`` by due time, ms
``{t}:unsent``                zset     job ids of webhooks that were given up, by when, ms
``{t}:held``                  zset     receivers that are sent nothing, by until when, ms
``{t}:hook:<job id>``         hash     how far a job's webhook got: attempts, state, log
``{t}:mark``                  string   written before WAIT and WAITAOF (`store.durability`)
``{t}:webhook``               hash     signing secret, old (until), disabled (since)
``due:{n}``                   zset     tracker's queue, shard n: ``tenant/job`` by due time, ms
``hooks:{n}``                 zset     tenants that owe webhooks, shard n: ``tenant/`` by due time, ms
``proc:<id>``                 string   heartbeat of a process
``turn:<name>``               string   whose turn it is at a piece of periodic work
``poll:pace``                 string   when the fleet's next poll may be made, microseconds (``upstream_poll_rps``)
``pace:{fleet}:blocked``      hash     ``jobs``, ``polls``: until when the vendor takes none, microseconds
``pace:{fleet}:asked``        hash     how many jobs each tenant asked to send lately (``upstream_rpm``)
``pace:{fleet}:jobs``         string   theoretical arrival time of the fleet's jobs, microseconds (``upstream_rpm``)
``pace:{fleet}:of:<tenant>``  string   the same within a tenant's share of them
``vendor:<vendor id>``        string   ``tenant/job`` that adopts this vendor's id, for 32 days
``learned``                   hash     model -> cost and duration of its last jobs
``tenants``                   set      all tenant ids
``policy``                    string   policy and models of ``gateway.yaml``, JSON
``ledger:epoch``              string   marks this dataset as the ledger; a flushed or wrong Redis has none
``ledger:rewound``            string   when and how this dataset went back in time, for a week after it was seen
============================  =======  ==========================================================================

Besides, the pub/sub channel ``jobs``: ``tenant/job`` at each change of a job.
"""

from __future__ import annotations

import hashlib

EPOCH = "ledger:epoch"
REWOUND = "ledger:rewound"
TENANTS = "tenants"
POLICY = "policy"
JOB_CHANGES = "jobs"
"""The channel that scripts announce changed jobs on; named in ``lua/_prelude.lua`` too."""
DUE_SHARDS = 16
HOOK_SHARDS = 4
PACE = "poll:pace"
PACE_BLOCKED = "pace:{fleet}:blocked"
PACE_ASKED = "pace:{fleet}:asked"
PACE_JOBS = "pace:{fleet}:jobs"
LEARNED = "learned"
UNKNOWN_OWNER = "?"
"""Stands in `sending` for the process of a job whose outcome nobody knows."""


def tenant(t: str) -> str:
    """Name the hash of a tenant's policy."""
    return f"{{{t}}}:tenant"


def keys(t: str) -> str:
    """Name the set of a tenant's key ids."""
    return f"{{{t}}}:keys"


def key(t: str, key_id: str) -> str:
    """Name the hash of one API key."""
    return f"{{{t}}}:key:{key_id}"


def gcra(t: str, limit: str) -> str:
    """Name the state of a rate limit (``submit`` or ``read``)."""
    return f"{{{t}}}:gcra:{limit}"


def budget(t: str) -> str:
    """Name the hash of a tenant's counters."""
    return f"{{{t}}}:budget"


def ledger(t: str) -> str:
    """Name the stream of a tenant's ledger entries."""
    return f"{{{t}}}:ledger"


def opening(t: str) -> str:
    """Name the hash of what a tenant's ledger began with."""
    return f"{{{t}}}:opening"


def usage(t: str, period: str = "") -> str:
    """Name the hash of a day's (``2026-02-01``) or a month's usage; without one, what their names begin with."""
    return f"{{{t}}}:usage:{period}"


def adjusted(t: str, job_id: str) -> str:
    """Name the mark of what a job is charged since an adjustment."""
    return f"{{{t}}}:adjusted:{job_id}"


def alerts(t: str) -> str:
    """Name the hash of a tenant's budget alerts."""
    return f"{{{t}}}:alerts"


def job(t: str, job_id: str) -> str:
    """Name the hash of a job's record."""
    return f"{{{t}}}:job:{job_id}"


def result(t: str, job_id: str) -> str:
    """Name the hash of a job's result."""
    return f"{{{t}}}:result:{job_id}"


def jobs(t: str) -> str:
    """Name the index of a tenant's jobs."""
    return f"{{{t}}}:jobs"


def active(t: str) -> str:
    """Name the set of a tenant's jobs whose hold stands."""
    return f"{{{t}}}:active"


def sending(t: str) -> str:
    """Name the hash of a tenant's jobs that are being sent."""
    return f"{{{t}}}:sending"


def upstream(t: str, upstream_id: str) -> str:
    """Name the mark of a vendor's id that a tenant's job has."""
    return f"{{{t}}}:upstream:{upstream_id}"


def claim(upstream_id: str) -> str:
    """Name the claim of an UNKNOWN job on a vendor's id; of all tenants, hence without a tag."""
    return f"vendor:{upstream_id}"


def idempotency(t: str, idempotency_key: str) -> str:
    """Name the record of an idempotency key; hashed, since a caller may put anything into it."""
    return f"{{{t}}}:idem:{hashlib.sha256(idempotency_key.encode()).hexdigest()[:40]}"


def owed(t: str) -> str:
    """Name the set of a tenant's webhooks that are to be sent."""
    return f"{{{t}}}:owed"


def unsent(t: str) -> str:
    """Name the set of a tenant's jobs whose webhook was given up."""
    return f"{{{t}}}:unsent"


def held(t: str) -> str:
    """Name the set of a tenant's receivers that are sent nothing for a while."""
    return f"{{{t}}}:held"


def hook(t: str, job_id: str) -> str:
    """Name the record of a job's webhook."""
    return f"{{{t}}}:hook:{job_id}"


def mark(t: str) -> str:
    """Name the mark that is written before it is asked whether a tenant's writes are kept."""
    return f"{{{t}}}:mark"


def webhook(t: str) -> str:
    """Name the hash of a tenant's signing secret and endpoint."""
    return f"{{{t}}}:webhook"


def hooks(shard: int) -> str:
    """Name a shard of the queue of tenants that owe webhooks."""
    return f"hooks:{{{shard}}}"


def due(shard: int) -> str:
    """Name a shard of the due queue."""
    return f"due:{{{shard}}}"


def pace_jobs(t: str) -> str:
    """Name the state of a tenant's share of the jobs that the fleet may send."""
    return f"pace:{{fleet}}:of:{t}"


def beat(owner: str) -> str:
    """Name the heartbeat of a process."""
    return f"proc:{owner}"


def turn(name: str) -> str:
    """Name the turn at a piece of periodic work."""
    return f"turn:{name}"
