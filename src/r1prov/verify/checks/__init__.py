"""The checks: each looks at one question and returns findings, coverage, or both. None reads."""
