"""Behavioural audit of an endpoint that claims to serve a model: it can refute, never prove."""
