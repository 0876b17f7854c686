"""Training: the two-stage recipe, its data and its sequences. Nothing here is needed to answer a question."""
