"""From files that people have to shards that models are trained on: repaired, filtered, deduplicated, tokenised."""
