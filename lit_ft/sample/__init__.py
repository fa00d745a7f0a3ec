"""Reviews and a tiny BERT made on the spot: every command runs with no network.

Read `phrases`, `reviews`, `encoder`. Imports the ground only.
"""
