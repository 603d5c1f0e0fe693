"""The pages: HTML from the server that works without scripts, and stays live with them.

One file an area. A page decides nothing: it asks what the API asks, and lays the answer out.
"""
