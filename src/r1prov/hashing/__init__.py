"""Streaming SHA-256 of many blobs at once."""
