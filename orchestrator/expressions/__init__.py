"""jq and JSON Schema under limits. Imports wf.gate's protocol only. Pure but for the armed
deadline.
"""
