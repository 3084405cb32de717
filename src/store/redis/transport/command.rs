//! The password that a command prints, such as a token of a provider that expires.
//!
//! Invariants:
//! - What was printed is used until the server refuses it; then the command runs again, but no more than once in [`AGAIN_AFTER`], however
//!   many connections are refused.
//! - A command that hangs is ended. Nothing of what it prints is in an error.

use std::io::{self, Read as _};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::error::{Code, Error, Result};

/// A password that the command printed less than this ago is not asked for anew.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// The longest that a command may run.
const LONGEST: Duration = Duration::from_secs(20);
/// Between two looks whether it has ended.
const LOOK: Duration = Duration::from_millis(5);
/// The longest password that is read, bytes: less than what a pipe holds, so that nobody has to read while the command runs.
const LARGEST: u64 = 32 << 10;

/// A program with its arguments, and what it printed last. Safe from any thread.
pub(super) struct PasswordCommand {
    words: Vec<String>,
    kept: Mutex<Option<(Instant, String)>>,
}

impl PasswordCommand {
    /// The first of the words is the program.
    pub(super) fn new(words: Vec<String>) -> PasswordCommand {
        PasswordCommand { words, kept: Mutex::new(None) }
    }

    /// The password. It may run the command, for as long as that takes.
    pub(super) fn password(&self) -> Result<String> {
        if let Some((_, password)) = &*self.kept.lock() {
            return Ok(password.clone());
        }
        let password = self.run()?;
        *self.kept.lock() = Some((Instant::now(), password.clone()));
        Ok(password)
    }

    /// This password was refused: it is not used again. False if the next one would be asked for too soon.
    pub(super) fn forget(&self, refused: &str) -> bool {
        let mut kept = self.kept.lock();
        match &*kept {
            Some((_, password)) if password != refused => true,
            Some((since, _)) if since.elapsed() < AGAIN_AFTER => false,
            _ => {
                *kept = None;
                true
            }
        }
    }

    fn run(&self) -> Result<String> {
        let (program, arguments) = self.words.split_first().ok_or_else(|| self.failed("it names no program"))?;
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| self.failed(&format!("it cannot be run: {e}")))?;
        let started = Instant::now();
        let status = loop {
            match child.try_wait() {
                Ok(Some(status)) => break status,
                Ok(None) if started.elapsed() < LONGEST => std::thread::sleep(LOOK),
                running => {
                    let _ = child.kill();
                    let _ = child.wait();
                    let late = format!("it ran for {LONGEST:?}, and was ended; or it printed more than a password");
                    return Err(self.failed(&running.err().map_or(late, |e| e.to_string())));
                }
            }
        };
        if !status.success() {
            return Err(self.failed(&format!("it failed ({status}): run it as this user to see why")));
        }
        let mut printed = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            // Whom it has left behind may hold the pipe: what is there is read, and nobody waits for more.
            let read = rustix::io::ioctl_fionbio(&pipe, true)
                .map_err(io::Error::from)
                .and_then(|()| pipe.take(LARGEST).read_to_end(&mut printed));
            if let Err(e) = read.map(drop)
                && e.kind() != io::ErrorKind::WouldBlock
            {
                return Err(self.failed(&e.to_string()));
            }
        }
        let text = String::from_utf8(printed).map_err(|_| self.failed("what it printed is not UTF-8"))?;
        match text.lines().next() {
            Some(line) if !line.is_empty() => Ok(line.to_owned()),
            _ => Err(self.failed("the first line that it printed is empty")),
        }
    }

    fn failed(&self, what: &str) -> Error {
        let program = self.words.first().map_or("", String::as_str);
        Error::new(Code::InvalidConfig, format!("redis.password_command {program}: {what}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> PasswordCommand {
        PasswordCommand::new(["sh", "-c", script].map(str::to_owned).to_vec())
    }

    #[test]
    fn what_is_printed_is_kept_until_it_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let command = shell(&format!("cd {}; echo x >> runs; wc -l < runs; echo more", folder.path().display()));
        assert_eq!([command.password(), command.password()], [Ok("1".to_owned()), Ok("1".to_owned())]);
        assert!(!command.forget("1"), "it ran just now");
        assert_eq!(command.password(), Ok("1".to_owned()));
        let old = Instant::now().checked_sub(AGAIN_AFTER).expect("the machine runs for longer");
        *command.kept.lock() = Some((old, "1".to_owned()));
        assert!(command.forget("0"), "another one is there");
        assert_eq!(command.password(), Ok("1".to_owned()));
        assert!(command.forget("1"));
        assert_eq!(command.password(), Ok("2".to_owned()));
    }

    #[test]
    fn a_command_that_fails_says_nothing_of_what_it_printed() {
        for (script, wanted) in
            [("echo hunter2; exit 3", "exit status: 3"), ("echo; echo hunter2", "first line that it printed is empty")]
        {
            let error = shell(script).password().expect_err("fails");
            assert!(error.message().starts_with("redis.password_command sh: ") && error.message().contains(wanted), "{error}");
            assert!(!error.message().contains("hunter2"), "{error}");
        }
        let error = PasswordCommand::new(vec!["/no/such/program".to_owned()]).password().expect_err("fails");
        assert!(error.message().contains("cannot be run"), "{error}");
    }
}
