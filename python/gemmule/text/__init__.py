"""Between messages and tokens: tokenizer, chat template, and what an answer's tokens mean."""
