"""What a graph is good for: one module per question."""
