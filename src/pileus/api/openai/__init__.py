"""OpenAI's wire forms: models, chat completions, completions."""
