"""How values are written as JSON: as `durable.web` does it."""

from __future__ import annotations

from typing import Any

# An enum as its value, a dataclass or model as an object, bytes as base64; for `pydantic_core`.
PLAIN: dict[str, Any] = {"bytes_mode": "base64", "inf_nan_mode": "strings", "fallback": repr}
