"""What the parts of the library hand each other: plain types that import no other part."""
