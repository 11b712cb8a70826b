"""Bytes to facts: readers of the formats a model folder is made of.

Every reader here takes bytes (or a function that reads ranges), does no I/O of its own, allocates
nothing by a declared size, and lets out only subclasses of `r1prov.errors.R1ProvError`.
"""
