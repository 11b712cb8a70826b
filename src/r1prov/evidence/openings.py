"""What openings of a bundle are filed under: the exchange that they belong to."""

from __future__ import annotations

import re
from typing import Final

from r1prov.responses.log_record import Head

_MEMBER: Final = re.compile(r"exchanges/(\d{5})\.json", re.ASCII)


def member_of(number: int) -> str:
    """Where an exchange stands in a bundle."""
    return f"exchanges/{number:05d}.json"


def head_of(path: str, sha256: str) -> Head:
    """The head under which its openings stand; number 0 for a member that r1prov never wrote."""
    found = _MEMBER.fullmatch(path)
    return Head(int(found[1]) if found else 0, sha256)
