"""HTTP: the API and the pages, one route a noun."""
