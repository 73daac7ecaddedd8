"""What operators ask: who am I, how does it fare, who has a key, who did what."""
