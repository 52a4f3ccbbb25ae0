"""What a top-up and the attempts to pay it may become, and how often a platform is asked."""
