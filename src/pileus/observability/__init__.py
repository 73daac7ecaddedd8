"""What Pileus tells about itself: named events, metrics, a short history, traces. No prompt text, no secrets."""
