"""Classes that other programs ask for, to use models of this library."""
