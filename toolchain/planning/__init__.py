"""From what a user asks for to a plan: every tensor, amount and option resolved before any compute."""
