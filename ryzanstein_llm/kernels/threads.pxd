cdef int team_size(int wanted) noexcept nogil
