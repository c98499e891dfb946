"""ResultIngestor: what came in, in order, once, safely. Imports the machine's words and wf."""
