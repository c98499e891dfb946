"""`call: openapi`: documents are fetched and read here, and calls made into plain HTTP requests.

Everything but `documents` is pure.
"""
