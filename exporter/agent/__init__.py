"""The agent's instruments, and the recorder that feeds them."""
