"""What a checkpoint, or a run's config.yaml, may name: both are data that anybody may have written, and never code.

A name is decided on before anything is imported. Only classes are made, only of a few packages and of modules that the
user trusts by name (`--trust my_package`), and only where a field expects a class of that kind. A stage YAML is the
user's own code, and may name what it likes.
"""
