"""What a signature of a trusted key may stand for."""

from enum import StrEnum


class Purpose(StrEnum):
    """What of a model a key may sign."""

    MANIFESTS = "manifests"  # what a model must be, in our form or that of OMS
    ATTESTATIONS = "attestations"  # that a verifier found a model to be that
