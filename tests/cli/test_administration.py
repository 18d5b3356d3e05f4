from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from gateway import __version__
from gateway.core.tenant import Credential

Gateway = Callable[..., Result]

FILE = """\
models:
  mine: {price: 0.25}
tenants:
  - {id: video-team, name: Video team, budgets: {day: 0.1}, prices: {flux-2-pro: 0.5}}
  - id: b
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Write a valid file."""
    path = tmp_path / "gateway.yaml"
    path.write_text(FILE)
    return path


@pytest.fixture
def applied(gateway: Gateway, file: Path) -> Gateway:
    """Run the command line on a store to which the file was applied."""
    assert gateway("apply", "-f", str(file)).exit_code == 0
    return gateway


def test_apply_prints_the_difference_and_is_idempotent(gateway: Gateway, file: Path) -> None:
    """A dry run shows and writes nothing; a second apply has nothing to do; a changed file shows what changed."""
    dry, first, second = (gateway("apply", "-f", str(file), *rest) for rest in (("--dry-run",), (), ()))
    assert dry.stdout == first.stdout
    assert "+ tenant video-team\n    + name: Video team\n" in first.stdout
    assert "nothing was written" in dry.stderr
    assert second.stdout == "no changes\n"

    file.write_text(FILE.replace("day: 0.1", "week: 2").replace("  - id: b\n", ""))
    changed = gateway("apply", "-f", str(file))
    assert changed.stdout.splitlines() == [
        "~ tenant video-team",
        "    - budgets.day: 0.1",
        "    + budgets.week: 2",
        "- tenant b (refused from now on; keys, jobs and ledger stay)",
    ]
    file.write_text(FILE)
    assert "+ tenant b (was removed)\n" in gateway("apply", "-f", str(file)).stdout


def test_apply_reads_standard_input_and_writes_json(gateway: Gateway) -> None:
    """A pipeline can feed the file and read the difference."""
    done = gateway("apply", "-f", "-", "--json", input=FILE)
    told = json.loads(done.stdout)
    assert told["applied"] is True
    assert [(change["action"], change["kind"], change["name"]) for change in told["changes"]] == [
        ("add", "policy", "policy"), ("add", "model", "mine"), ("add", "tenant", "video-team"), ("add", "tenant", "b"),
    ]  # fmt: skip
    assert {"field": "budgets.day", "before": None, "after": "0.1"} in told["changes"][2]["fields"]


def test_apply_lists_all_mistakes_and_changes_nothing(applied: Gateway, file: Path) -> None:
    """Each mistake is a line on standard error with file, line and field; the exit code is 2."""
    file.write_text("tenants:\n  - {id: video-team, budgets: {day: -1}}\n  - {id: c, bogus: 1}\n")
    failed = applied("apply", "-f", str(file))
    assert failed.exit_code == 2
    assert failed.stdout == ""
    assert [line.removeprefix(f"{file}:").split(": ")[:2] for line in failed.stderr.splitlines()] == [
        ["2", "tenants[0].budgets.day"],
        ["3", "tenants[1].bogus"],
    ]
    assert [row["id"] for row in json.loads(applied("tenant", "list", "--json").stdout)] == ["b", "video-team"]


@pytest.mark.parametrize("content", [None, b"\xff\xfe"])
def test_an_unreadable_file_is_a_mistake(gateway: Gateway, tmp_path: Path, content: bytes | None) -> None:
    """A missing or binary file is one line and exit code 2, not a stack trace."""
    path = tmp_path / "other.yaml"
    if content is not None:
        path.write_bytes(content)
    failed = gateway("apply", "-f", str(path))
    assert (failed.exit_code, len(failed.stderr.splitlines())) == (2, 1)
    assert str(path) in failed.stderr


def test_key_create_prints_the_key_alone_on_standard_output(applied: Gateway) -> None:
    """A script can take the key as it comes; all words for humans are on standard error."""
    made = applied("key", "create", "video-team", "--name", "ci", "--expires", "90d")
    key = Credential.parse(made.stdout.removesuffix("\n"))
    assert key is not None
    assert key.tenant == "video-team"
    assert "shown this once" in made.stderr
    (row,) = json.loads(applied("key", "list", "video-team", "--json").stdout)
    assert (row["id"], row["name"], row["state"]) == (key.key_id, "ci", "active")
    assert row["expires_ms"] - row["created_ms"] == 90 * 86_400_000
    assert made.stdout.strip() not in applied("key", "list", "video-team").stdout


def test_keys_are_rotated_and_revoked(applied: Gateway) -> None:
    """Without an overlap the old key ends at once; a revoked key is listed as such."""
    applied("key", "create", "b")
    rotated = applied("key", "rotate", "b", "--overlap", "0s")
    new = Credential.parse(rotated.stdout.strip())
    assert new is not None
    assert [key["state"] for key in json.loads(applied("key", "list", "b", "--json").stdout)].count("active") == 1
    assert applied("key", "revoke", "b", new.key_id).exit_code == 0
    listed = applied("key", "list", "b").stdout
    assert "active" not in listed
    assert f"{new.key_id}        revoked  " in listed
    assert applied("key", "rotate", "b").exit_code == 1


def test_tenants_are_listed_shown_suspended_and_resumed(applied: Gateway, file: Path) -> None:
    """Suspension shows in the list, survives apply and ends with resume."""
    assert applied("tenant", "suspend", "video-team").exit_code == 0
    applied("apply", "-f", str(file))
    assert applied("tenant", "list").stdout.splitlines() == [
        "ID          NAME        STATE      BUDGETS",
        "b                       active     none",
        "video-team  Video team  suspended  0.1 a day",
    ]
    assert applied("tenant", "resume", "video-team").exit_code == 0
    shown = applied("tenant", "show", "video-team").stdout
    assert "state:                   active\n" in shown
    assert "budgets.day:             0.1\n" in shown
    told = json.loads(applied("tenant", "show", "video-team", "--json").stdout)["policy"]
    assert (told["prices"], told["budgets"], told["models"]) == ({"flux-2-pro": "0.5"}, {"day": "0.1"}, [])
    assert told["rate_limits"]["submit"] == {"limit": 600, "period_s": 60, "burst": 100}


@pytest.mark.parametrize(
    "words",
    [
        ("tenant", "show", "nobody"),
        ("tenant", "suspend", "nobody"),
        ("tenant", "resume", "Bad{id}"),
        ("key", "create", "nobody"),
        ("key", "list", "nobody"),
        ("key", "rotate", "nobody"),
        ("key", "revoke", "b", "deadbeef"),
    ],
)
def test_what_is_not_there_is_told_in_one_line(applied: Gateway, words: tuple[str, ...]) -> None:
    """An unknown tenant or key is exit code 1 and a sentence on standard error."""
    failed = applied(*words)
    assert (failed.exit_code, failed.stdout, len(failed.stderr.splitlines())) == (1, "", 1)


@pytest.mark.parametrize(
    "words", [("--expires", "3"), ("--expires", "0s"), ("--name", "a\x1b[31m"), ("--name", "n" * 129), ("--bogus",)]
)
def test_wrong_options_are_mistakes(applied: Gateway, words: tuple[str, ...]) -> None:
    """A wrong option is exit code 2, and no key is made."""
    assert applied("key", "create", "b", *words).exit_code == 2
    assert json.loads(applied("key", "list", "b", "--json").stdout) == []


@pytest.mark.parametrize("words", [("tenant", "list"), ("key", "create", "b"), ("apply", "-f", "-")])
def test_an_unreachable_store_is_one_line(gateway: Gateway, words: tuple[str, ...]) -> None:
    """Exit code 3, so that a script can tell an outage from a mistake."""
    failed = gateway(*words, input=FILE, GATEWAY_REDIS_URL="redis://127.0.0.1:1/0")
    assert (failed.exit_code, failed.stdout, len(failed.stderr.splitlines())) == (3, "", 1)


def test_without_a_redis_url_the_embedded_store_keeps_what_was_applied(gateway: Gateway, tmp_path: Path) -> None:
    """Each command starts and ends the store by itself; what one wrote the next one reads."""
    local = {"GATEWAY_REDIS_URL": "", "GATEWAY_DATA_DIR": str(tmp_path / "data")}
    assert gateway("apply", "-f", "-", input=FILE, **local).exit_code == 0
    assert "video-team" in gateway("tenant", "list", **local).stdout


def test_config_lists_variables_without_secrets(gateway: Gateway) -> None:
    """Name, value, default and meaning of each; unknown ones are pointed out on standard error."""
    environ = {"SEGMIND_API_KEY": "SG_hunter2hunter2", "GATEWAY_PORT": "81", "GATEWAY_PROT": "1"}
    listed = gateway("config", "--json", **environ)
    rows = {row["name"]: row for row in json.loads(listed.stdout)}
    assert (rows["GATEWAY_PORT"]["value"], rows["GATEWAY_PORT"]["default"]) == ("81", "8080")
    assert listed.stderr == "GATEWAY_PROT means nothing to this version; did you mean GATEWAY_PORT?\n"
    table = gateway("config", **environ).stdout
    assert len(table.splitlines()) == len(rows) + 1
    assert "hunter2" not in listed.stdout + table


def test_wrong_settings_are_all_listed(gateway: Gateway) -> None:
    """Every wrong variable is a line on standard error; the exit code is 2, in every command."""
    wrong = {"GATEWAY_PORT": "x", "GATEWAY_ROLE": "y"}
    for words in (("config",), ("tenant", "list")):
        failed = gateway(*words, **wrong)
        assert failed.exit_code == 2
        assert [line.partition(":")[0] for line in failed.stderr.splitlines()] == ["GATEWAY_PORT", "GATEWAY_ROLE"]


def test_the_version_is_printed(gateway: Gateway) -> None:
    """``gateway --version`` prints the version alone, and asks for no command."""
    said = gateway("--version")
    assert (said.exit_code, said.stdout) == (0, f"{__version__}\n")


def test_serve_warns_of_names_that_do_nothing(gateway: Gateway) -> None:
    """A misspelt variable, or one without effect yet, is told at the start; what is fatal is another mistake."""
    pointless = {"GATEWAY_PROT": "1", "GATEWAY_ADMIN_TOKEN": "hunter2-hunter2-hunter2"}
    said = gateway("serve", **pointless, GATEWAY_PORT="1", GATEWAY_HOST="256.0.0.0", GATEWAY_OPS_PORT="0")
    *warned, failed = said.stderr.splitlines()
    assert warned == [
        "GATEWAY_PROT means nothing to this version; did you mean GATEWAY_PORT?",
        "GATEWAY_ADMIN_TOKEN has no effect: this version has no control plane",
    ]
    assert failed.startswith("GATEWAY_PORT: can't listen")
