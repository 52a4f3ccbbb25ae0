"""Ways to reach a person: a leaf of floor 1, behind contract.py."""
