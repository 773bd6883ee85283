"""Quantization-aware training: networks that compute as their quantized form will, and learn under it."""
