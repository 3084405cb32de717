//! Build script: the shared library's SONAME and the C header.

fn main() {}
