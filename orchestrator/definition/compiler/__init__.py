"""What every construct is compiled with: nodes, problems, schemas, durations, versions. Imports
source,
expressions and wf.protocol. Pure.
"""
