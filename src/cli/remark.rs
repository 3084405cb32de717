//! What is said beside the output, on stderr.

use std::io::{self, Write as _};

/// Says something. A failed write is ignored.
pub(super) fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "atlock: {text}");
}
