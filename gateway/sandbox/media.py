"""What the sandbox's models produce: tiny files, and replies in the shapes of three providers."""

from __future__ import annotations

import struct
from collections.abc import Mapping

import orjson

from gateway.sandbox.jobs import Job
from gateway.sandbox.models import Kind


def _box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + name + content


def _wav(samples: int) -> bytes:
    fmt = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 8000, 8000, 1, 8)
    data = b"data" + struct.pack("<I", samples) + b"\x80" * samples
    return b"RIFF" + struct.pack("<I", 4 + len(fmt) + len(data)) + b"WAVE" + fmt + data


def _jpeg() -> bytes:
    """Build one grey pixel: each Huffman table has a single code, for zero."""

    def segment(marker: int, content: bytes) -> bytes:
        return struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content

    code = bytes([1]) + bytes(15) + b"\x00"
    return (
        b"\xff\xd8"
        + segment(0xE0, b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00")
        + segment(0xDB, b"\x00" + b"\x01" * 64)
        + segment(0xC0, b"\x08\x00\x01\x00\x01\x01\x01\x11\x00")
        + segment(0xC4, b"\x00" + code)
        + segment(0xC4, b"\x10" + code)
        + segment(0xDA, b"\x01\x01\x00\x00\x3f\x00")
        + b"\x3f\xff\xd9"
    )


_MP4 = _box(b"ftyp", b"isom\x00\x00\x02\x00isommp41") + _box(b"free", b"") + _box(b"mdat", b"sandbox")
_JPEG = _jpeg()
FILES: Mapping[Kind, tuple[str, bytes]] = {
    "video": ("video/mp4", _MP4),
    "workflow": ("video/mp4", _MP4),
    "image": ("image/jpeg", _JPEG),
    "audio": ("audio/wav", _wav(800)),
}
SUFFIXES: Mapping[Kind, str] = {"video": ".mp4", "workflow": ".mp4", "image": ".jpg", "audio": ".wav"}


def reply(job: Job) -> str:
    """Return a text model's output: the provider's own JSON as a string, or plain text."""
    text = f"Sandbox reply to: {_asked(orjson.loads(job.body))}"
    match job.model.provider:
        case None:
            return text
        case "openai":
            body: dict[str, object] = {
                "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 8, "completion_tokens": 8, "total_tokens": 16},
            }
        case "anthropic":
            body = {
                "content": [{"type": "text", "text": text}],
                "stop_reason": "end_turn",
                "usage": {"input_tokens": 8, "output_tokens": 8},
            }
        case "gemini":
            body = {
                "candidates": [{"content": {"role": "model", "parts": [{"text": text}]}, "finishReason": "STOP"}],
                "usageMetadata": {"promptTokenCount": 8, "candidatesTokenCount": 8, "totalTokenCount": 16},
            }
    return orjson.dumps(body).decode()


def _asked(params: Mapping[str, object]) -> str:
    if isinstance(params.get("prompt"), str):
        return str(params["prompt"])
    messages = params.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    content = last.get("content") if isinstance(last, dict) else None
    if isinstance(content, list):
        content = " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return str(content or "")
