"""Runs of hours: an endless stream of questions, checkpointed, watched and steered by the alerts."""
