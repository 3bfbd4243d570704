"""A launch: its plan, the decision as a document, and what starts it."""
