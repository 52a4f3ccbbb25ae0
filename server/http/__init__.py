"""What every HTTP door shares: problems, bodies, answers, the context. No routes."""
