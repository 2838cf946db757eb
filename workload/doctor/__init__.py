"""`hop2rag doctor`: what stands between this project and its figures, and what to do about it."""
