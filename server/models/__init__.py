"""Floor 1: tables, constraints, migrations; no verbs.

`database.py` opens the pool and runs SQL; every other file is a group of tables. The partitioned
tables (reading, statement) and the triggers are SQL in the migrations: Tortoise has neither.
"""
