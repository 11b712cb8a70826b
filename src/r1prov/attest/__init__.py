"""A verdict in the formats of others: in-toto SVR, SLSA VSA, CycloneDX ML-BOM."""
