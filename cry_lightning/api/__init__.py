"""Every command as a typed function; each checks its arguments before what it runs is imported."""
