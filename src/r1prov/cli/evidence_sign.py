"""`r1prov evidence sign` and `timestamp`: more signatures and timestamps under a bundle."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from r1prov.cli.options import Quiet, TimestampUrl
from r1prov.cli.signing import SignerCertificate, SignerIssuers, SigningKey

_Bundle = Annotated[Path, typer.Argument(metavar="BUNDLE", help="The bundle file.")]


def sign(
    bundle: _Bundle,
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


def timestamp(
    bundle: _Bundle,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The timestamped bundle; not overwritten.")
    ],
    timestamp_url: TimestampUrl = None,
    quiet: Quiet = False,
) -> None:
    """Have the signatures of a bundle timestamped: it then outlives their keys.

    A timestamp proves that the bundle was signed before it was made. Where one was asked for when
    the bundle was made, taking it away shows; one that is added here can be taken away unseen.

    \b
    Examples:
      r1prov evidence timestamp r1.zip --timestamp-url http://timestamp.example.org/tsr -o r1.t.zip
    """  # noqa: D301 - \b is how the help keeps lines as they are
    from r1prov.cli.output import refuse_output, say, write_new
    from r1prov.cli.signing import timestamped
    from r1prov.errors import UsageError
    from r1prov.evidence.countersign import restamp
    from r1prov.limits import MAX_EVIDENCE_BYTES
    from r1prov.trust.directories import read_file

    if timestamp_url is None:
        raise UsageError("--timestamp-url is missing", hint="name an authority of RFC 3161")
    refuse_output(output)
    raw = read_file(bundle, MAX_EVIDENCE_BYTES)
    stamp = partial(timestamped, url=timestamp_url, subject="the signature")
    write_new(output, restamp(raw, stamp, subject=bundle.name))
    if not quiet:
        say(f"{output}: timestamped")
