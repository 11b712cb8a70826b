"""Who may sign what: keys, signature bundles, the trust store, the Hub's commit signatures."""
