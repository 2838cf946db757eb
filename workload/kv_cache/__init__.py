"""Experiment 1: how much of the prompts could a prefix cache serve? Prompts from three sources, one analysis."""
