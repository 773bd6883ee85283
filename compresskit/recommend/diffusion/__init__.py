"""Evaluation data that no model was trained on: samples of a class-conditional diffusion model of the training data (Meta Compression, 4.3.1)."""
