"""Reads and writes files: atomically, and within limits if a stranger may have packed them."""
