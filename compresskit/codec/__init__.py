"""Signals as implicit neural representations: COIN and COIN++, as a file format that decodes exactly."""
