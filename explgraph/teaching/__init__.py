"""Teaching parts in conversation: the question that helps most, its answer, what is known then."""
