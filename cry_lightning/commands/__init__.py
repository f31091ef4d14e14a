"""What each command takes, one file a command: help and mistakes cost no import of torch, which takes seconds."""
