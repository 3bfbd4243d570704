"""Reports for people: one stored verdict, all of them, or the start that a server's log tells, as a page or as text."""
