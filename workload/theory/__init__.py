"""What could be: the bound of a prefix cache, its pool, its eviction, and the physics of a token."""
