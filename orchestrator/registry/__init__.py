"""KVDefs: registered definitions, their schedules, the activities that were announced. Imports
definition, state and wf.
"""
