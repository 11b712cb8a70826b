"""Where a model's files live."""
