"""Attention entropy of local models: a description, for models that fit into memory.

Nothing here says which model something is; heads and layers, which do, are read from headers by
`r1prov.family.attention` without any of this.
"""
