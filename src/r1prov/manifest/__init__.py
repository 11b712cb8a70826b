"""The statement of what a model must be."""
