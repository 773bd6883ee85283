"""Float networks that lose little when they are quantized, to any number of bits: trained with a penalty on how sharply the loss changes."""
