"""A bundle as a bag: the tag files of BagIt 1.0 (RFC 8493), serialized as §4 has it.

`data/` is the payload; `manifest-sha256.txt` lists its digests, `tagmanifest-sha256.txt` those of
the other files, so that any BagIt tool checks every byte of a bundle without r1prov. All of them
follow from the members, so that a verifier makes them again and compares.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT: Final = "evidence/"
DATA: Final = ROOT + "data/"
INDEX: Final = ROOT + "index.json"
SIGNATURE: Final = ROOT + "index.json.sigstore.json"
# Of whoever signs the same index later, by the beginning of the key's id.
_COUNTERSIGNATURE: Final = re.compile(re.escape(INDEX) + r"\.[0-9a-f]{8}\.sigstore\.json")
_BAGIT: Final = b"BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n"
_MANIFEST, _TAGS = ROOT + "manifest-sha256.txt", ROOT + "tagmanifest-sha256.txt"
TAG_FILES: Final = frozenset({ROOT + "bagit.txt", ROOT + "bag-info.txt", _MANIFEST, _TAGS})


def countersignature(key_id8: str) -> str:
    """The member with the signature of somebody who signs a bundle that is there."""
    return f"{INDEX}.{key_id8}.sigstore.json"


def is_countersignature(name: str) -> bool:
    """Whether a member is one."""
    return _COUNTERSIGNATURE.fullmatch(name) is not None


def tag_files(members: Mapping[str, bytes], *, day: str) -> dict[str, bytes]:
    """The tag files of a bag with these members.

    Args:
        members: Payload, index and signature, by name in the archive.
        day: When it was made, as `YYYY-MM-DD`.
    """
    payload = {name: data for name, data in members.items() if name.startswith(DATA)}
    octets = sum(map(len, payload.values()))
    tags = {name: data for name, data in members.items() if name not in payload}
    tags[ROOT + "bagit.txt"] = _BAGIT
    tags[ROOT + "bag-info.txt"] = (
        f"Bag-Software-Agent: r1prov\nBagging-Date: {day}\nPayload-Oxum: {octets}.{len(payload)}\n"
    ).encode()
    tags[_MANIFEST] = _digests(payload)
    tags[_TAGS] = _digests(tags)
    return {name: data for name, data in tags.items() if name in TAG_FILES}


def _digests(files: Mapping[str, bytes]) -> bytes:
    lines = (
        f"{hashlib.sha256(data).hexdigest()}  {name.removeprefix(ROOT)}\n"
        for name, data in sorted(files.items())
    )
    return "".join(lines).encode()
