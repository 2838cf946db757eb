"""The commands of `hop2rag`, one module per group: options to settings, a call, printed output."""
