"""HTTP: requests, answers, credentials, failures."""
