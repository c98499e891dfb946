"""StateMgr: KVInstances and StreamEvents; snapshots, what is stored beside them, history. Imports
the
machine and wf.
"""
