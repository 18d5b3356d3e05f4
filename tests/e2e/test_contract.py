"""The contract, fuzzed: a live gateway on the sandbox answers as `/openapi.json` says, whatever it is sent."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import Any, Final

from support.gateway import BUDGET, gateway_on

from gateway.core.tenant import RateLimit

EXAMPLES: Final = 15
"""Of each operation and phase at most."""
UNLIMITED: Final = RateLimit(limit=100_000, period_s=1, burst=100_000)
CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
    "ignored_auth",
)


async def test_fuzzing_finds_no_server_error_and_no_violation_of_the_contract(redis_url: str, tmp_path: Path) -> None:
    """Schemathesis (examples, boundaries, negative data, stateful links) finds nothing that the contract hides."""
    options: dict[str, Any] = {
        "submit": UNLIMITED,
        "read": UNLIMITED,
        "concurrent_jobs": 100_000,
        "budgets": {"total": 1000 * BUDGET},
    }
    async with gateway_on(redis_url, **options) as gateway:
        secrets = f'[auth.openapi.apiKey]\napi_key = "{gateway.key}"\n[auth.openapi.bearer]\nbearer = "{gateway.key}"\n'
        (tmp_path / "schemathesis.toml").write_text(secrets)
        process = await asyncio.create_subprocess_exec(
            *(Path(sys.executable).with_name("schemathesis"), "run", f"{gateway.url}/openapi.json"),
            *("--checks", ",".join(CHECKS)),
            *("--max-examples", str(EXAMPLES), "--generation-deterministic", "--no-color", "--request-timeout", "30"),
            cwd=tmp_path,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
    assert process.returncode == 0, said.decode()
