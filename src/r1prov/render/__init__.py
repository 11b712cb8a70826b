"""A report as text or JSON. Each renderer is pure: report in, string out."""
