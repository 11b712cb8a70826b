"""JSON of model repositories: strict, except for what their own writers write."""

from __future__ import annotations

from r1prov.formats.strictjson import parse_json
from r1prov.limits import MAX_CONFIG_BYTES, MAX_CONFIG_INT_DIGITS


def parse_model_config(raw: bytes, *, subject: str) -> object:
    """Parse `config.json` or one of its kind.

    Python's `json` writes `Infinity` and integers of any length, and configs have both
    (`time_step_limit` of Mamba2, `model_max_length` of most tokenizers).

    Raises:
        JsonError: As `parse_json`.
    """
    return parse_json(
        raw,
        subject=subject,
        max_bytes=MAX_CONFIG_BYTES,
        max_int_digits=MAX_CONFIG_INT_DIGITS,
        constants=True,
    )
