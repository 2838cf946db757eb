"""How files are read and written: whole or not at all, and within bounds where a stranger packed them."""
