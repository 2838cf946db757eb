"""`hop2rag doctor`: finds the faults that would leave panels empty, each with its remedy."""
