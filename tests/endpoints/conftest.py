"""Real tokenizers, and endpoints that are one persona or another."""

from persona_fixtures import r1, start, tokenizers

__all__ = ["r1", "start", "tokenizers"]
