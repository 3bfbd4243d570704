"""Reports for people, as a page or as text: one stored verdict, all of them, or the starts in a server's log."""
