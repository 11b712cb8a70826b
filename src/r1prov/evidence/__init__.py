"""Evidence bundles: a report and all that supports it in one file, verifiable offline."""
