"""What `make` calls: the chain of stages, none done twice."""
