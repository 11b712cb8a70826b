"""Signatures on API responses: verify them, enforce them in clients, make them before servers."""
