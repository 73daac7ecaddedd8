"""One request's life: text to ids, reservation, queue, replica, ids to text, settlement."""
