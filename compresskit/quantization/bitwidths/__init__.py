"""Bit widths learned layer by layer: gates on nested residuals, closed until a target is hit."""
