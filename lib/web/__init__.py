"""What speaks HTTP: a blueprint a concern, and problem documents for everything that goes wrong."""
