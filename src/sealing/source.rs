//! Where the master keys are: a file, an environment variable, what a command prints.
//!
//! They are read whenever stores are opened, and so by `atlock reload`, too; nothing is kept of them beside the keys.

use std::io::Read as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use zeroize::Zeroizing;

use super::master::MasterKeys;
use crate::config::Encryption;
use crate::error::{Code, Error, Result};
use crate::private_file;

/// Most bytes that are read.
const MOST_BYTES: u64 = 64 << 10;
/// How long a command may take.
const COMMAND: Duration = Duration::from_secs(20);
/// Time between two looks whether it has ended.
const PAUSE: Duration = Duration::from_millis(10);

/// Reads the master keys that the settings name; `None` if they name none.
///
/// It waits for a command for up to 20 s. A key file that others may read or change is refused.
///
/// Errors: `InvalidConfig`, naming the setting; never what was read.
pub fn read(settings: &Encryption) -> Result<Option<MasterKeys>> {
    let (text, source) = if let Some(path) = &settings.key_file {
        let source = format!("locking.encryption.key_file {}", path.display());
        (of_file(path).map_err(|e| e.context(&source))?, source)
    } else if let Some(name) = &settings.key_env {
        let source = format!("locking.encryption.key_env {name}");
        let text =
            std::env::var_os(name).ok_or_else(|| wrong("this process has no such environment variable").context(&source))?;
        (Zeroizing::new(text.into_encoded_bytes()), source)
    } else if let Some(command) = &settings.key_command {
        let source = "locking.encryption.key_command".to_owned();
        (of_command(command, COMMAND).map_err(|e| e.context(&source))?, source)
    } else {
        return Ok(None);
    };
    MasterKeys::parse(&text, &source).map(Some)
}

fn wrong(what: impl Into<String>) -> Error {
    Error::new(Code::InvalidConfig, what)
}

fn of_file(path: &Path) -> Result<Zeroizing<Vec<u8>>> {
    let file = std::fs::File::open(path).map_err(|e| wrong(format!("it cannot be read: {e}")))?;
    if let Some(fault) = private_file::secret(path) {
        return Err(wrong(format!("{fault}. A key that others have keeps nothing from them")));
    }
    bounded(file).map_err(|e| wrong(format!("it cannot be read: {e}")))
}

fn bounded(from: impl std::io::Read) -> std::io::Result<Zeroizing<Vec<u8>>> {
    // Its full size at once: a vector that grows leaves copies behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MOST_BYTES as usize + 1));
    from.take(MOST_BYTES + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(std::io::Error::other(format!("it has more than {MOST_BYTES} bytes")));
    }
    Ok(bytes)
}

/// What a command prints. Its stdin is empty; its stderr is this process's own.
fn of_command(command: &str, limit: Duration) -> Result<Zeroizing<Vec<u8>>> {
    let mut child = Command::new("/bin/sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| wrong(format!("/bin/sh cannot be started: {e}")))?;
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || stdout.map(bounded));
    let status = ended(&mut child, limit);
    let status = status.map_err(|e| wrong(format!("its end cannot be waited for: {e}")))?;
    let Some(status) = status else {
        // Who holds its stdout open, a child of its own, may live on: the reader is not waited for.
        return Err(wrong(format!("the command has not ended within {} s, and was ended", limit.as_secs())));
    };
    if !status.success() {
        return Err(wrong(format!("the command ended with {status}; what it wrote to stderr says why")));
    }
    let read = reader.join().ok().flatten().ok_or_else(|| wrong("what the command printed cannot be read"))?;
    read.map_err(|e| wrong(format!("what the command printed cannot be read: {e}")))
}

/// How it ended; `None` if it had to be ended.
fn ended(child: &mut Child, limit: Duration) -> std::io::Result<Option<std::process::ExitStatus>> {
    let give_up = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= give_up {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn command(text: &str) -> Encryption {
        Encryption { key_command: Some(text.to_owned()), ..Encryption::default() }
    }

    #[test]
    fn a_key_file_that_others_have_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, KEY).unwrap();
        let settings = Encryption { key_file: Some(file.clone()), ..Encryption::default() };
        for (mode, refused) in [(0o400, false), (0o640, false), (0o644, true), (0o660, true), (0o602, true)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let read = read(&settings);
            assert_eq!(read.is_err(), refused, "{mode:o}");
            if let Err(error) = read {
                assert!(error.code() == Code::InvalidConfig && error.message().contains("key_file"), "{error}");
                assert!(!error.message().contains(KEY), "{error}");
            }
        }
        fs::remove_file(&file).unwrap();
        assert!(read(&settings).unwrap_err().message().contains("cannot be read"));
    }

    #[test]
    fn a_command_prints_the_key_or_says_why_not() {
        assert!(read(&command(&format!("printf {KEY}"))).unwrap().is_some());
        for (text, wanted) in
            [("exit 3", "ended with exit status: 3"), ("true", "there is no key"), ("echo nonsense", "line 1 is no key")]
        {
            let error = read(&command(text)).unwrap_err();
            assert!(error.code() == Code::InvalidConfig && error.message().contains(wanted), "{error}");
            assert!(error.message().contains("key_command") && !error.message().contains("nonsense"), "{error}");
        }
        let error = of_command("exec sleep 60", Duration::from_millis(50)).unwrap_err();
        assert!(error.message().contains("has not ended"), "{error}");
        let error = of_command("exec head -c 100000 /dev/zero", COMMAND).unwrap_err();
        assert!(error.message().contains("cannot be read") || error.message().contains("ended with"), "{error}");
    }

    #[test]
    fn no_setting_names_no_key_and_a_missing_variable_is_named() {
        assert!(read(&Encryption::default()).unwrap().is_none());
        let missing = Encryption { key_env: Some("ATLOCK_NO_SUCH_VARIABLE".to_owned()), ..Encryption::default() };
        assert!(read(&missing).unwrap_err().message().contains("key_env ATLOCK_NO_SUCH_VARIABLE"));
    }
}
