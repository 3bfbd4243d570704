"""What others wrote: files, JSON and stored reports, each read within bounds."""
