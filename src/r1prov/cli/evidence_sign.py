"""`r1prov evidence sign`: another signature under a bundle."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli.options import Quiet, TimestampUrl
from r1prov.cli.signing import SignerCertificate, SignerIssuers, SigningKey


def command(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle file.")],
    key: SigningKey,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The signed bundle; not overwritten.")
    ],
    certificate: SignerCertificate = None,
    chain: SignerIssuers = None,
    timestamp_url: TimestampUrl = None,
    quiet: Quiet = False,
) -> None:
    """Sign a bundle that somebody else made, so that both sides stand for one file.

    What is signed is its index, and with it every member. That the bundle is intact is checked;
    whether to agree with it is for whoever signs: verify it first.

    \b
    Examples:
      r1prov evidence sign r1.evidence.zip --key supplier.key -o r1.both.zip
      r1prov evidence verify r1.both.zip --keys ./pinned --signers 2
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import refuse_output, say, write_new
    from r1prov.cli.signing import load_private_key, signing_certificates, timestamped
    from r1prov.evidence.countersign import countersign
    from r1prov.limits import MAX_EVIDENCE_BYTES
    from r1prov.trust.directories import read_file

    refuse_output(output)
    certificates = signing_certificates(certificate, chain)
    raw = read_file(bundle, MAX_EVIDENCE_BYTES)
    private = load_private_key(key)
    stamp = None
    if timestamp_url is not None:
        stamp = partial(timestamped, url=timestamp_url, subject="the signature")
    write_new(output, countersign(raw, private, certificates, subject=bundle.name, stamp=stamp))
    if not quiet:
        say(f"{output}: signed as {private.public.key_id}")
