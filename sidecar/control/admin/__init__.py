"""The admin listener: what is in force in depth, changes to it, and the live page. `app.py` has the table."""
