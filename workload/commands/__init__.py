"""The commands of `hop2rag`, one module for each group: flags to settings, a call, a line of output."""
