"""Plain types that the parts of the library hand each other. They import no other part."""
