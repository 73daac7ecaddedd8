"""Where replica processes run. A backend starts and stops them; tokens never pass through it."""
