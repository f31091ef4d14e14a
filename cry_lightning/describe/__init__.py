"""What a corpus is made of: who and what is in it, how it sounds, and which splits its subjects can support."""
