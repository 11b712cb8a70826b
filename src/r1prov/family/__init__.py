"""What is known of the model family: derived inventories, and which member a model is."""
