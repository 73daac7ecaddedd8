"""What is measured: engines against engines, the gateway alone, and the start."""
