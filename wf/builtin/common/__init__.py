"""What the built-in activities share: secrets, redaction, expressions that are evaluated in the
worker.
"""
