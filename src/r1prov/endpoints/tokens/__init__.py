"""Which tokenizer is at work behind an endpoint: asked for (active) and overheard (passive)."""
