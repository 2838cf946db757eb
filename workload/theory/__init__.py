"""What is possible: the bound of a prefix cache, its pool and eviction, and the physics of a token."""
