"""The tokenizers of the endpoints that the contract kit is tried on."""

from persona_fixtures import tokenizers

__all__ = ["tokenizers"]
