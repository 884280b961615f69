"""This version of the library beside another one, in turns."""
