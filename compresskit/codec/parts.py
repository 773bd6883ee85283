"""What latents modulate of a base network."""

OUTPUT, SHIFTS = "output", "shifts"
