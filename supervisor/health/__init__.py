"""What shows that processes, host and supervisor are well. Imports processes and policy."""
