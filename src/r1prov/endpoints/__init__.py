"""Behavioural audit of an endpoint that claims to serve a model: what its answers bear out."""
