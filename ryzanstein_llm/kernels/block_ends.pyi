# Other kernels cimport this module. It has nothing for Python.
