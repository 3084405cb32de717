//! Asking a person at a terminal.

use std::io::{self, IsTerminal as _, Write as _};

use atlock::error::{Code, Error, Result};

/// Whether there is a person who can be asked.
pub fn is_somebody_there() -> bool {
    io::stdin().is_terminal() && io::stderr().is_terminal()
}

/// Asks a person, if there is one at a terminal.
pub fn confirmed(question: &str) -> Result<bool> {
    if !is_somebody_there() {
        return Ok(true);
    }
    let (mut input, mut output) = (io::stdin(), io::stderr());
    let failed =
        |e: io::Error| Error::new(Code::InvalidArgument, format!("nothing was changed: the terminal cannot be asked: {e}"));
    write!(output, "{question} [y/N] ").and_then(|()| output.flush()).map_err(failed)?;
    let mut answer = String::new();
    io::BufRead::read_line(&mut io::BufReader::new(&mut input), &mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
