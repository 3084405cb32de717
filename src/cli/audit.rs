//! `atlock audit verify`: whether a trail is whole.

use std::path::{Path, PathBuf};

use atlock::audit::{AuditLog, Finding, Hash, Verified, verify};
use atlock::config::Config;
use atlock::error::{Code, Error, Result};
use atlock::queue::freeze::plain;

use super::show::Outcome;

/// Looks at a trail: at the one of the settings, at a file, or at the only one in a folder.
pub fn check(path: Option<&Path>, anchor: Option<Hash>, config: &Config, json: bool) -> Result<Outcome> {
    let file = match path {
        Some(path) if path.is_dir() => in_folder(path)?,
        Some(path) => path.to_owned(),
        None => AuditLog::file(&config.locking.audit)?.to_owned(),
    };
    let found = verify(&file, anchor)?;
    let outcome = if json { Outcome::of(&found)? } else { Outcome::lines(lines(&found), true) };
    let faults = found.faults.len();
    Ok(Outcome { incomplete: (faults > 0).then(|| format!("the trail is not whole: {faults} faults")), ..outcome })
}

fn lines(found: &Verified) -> String {
    let told = |word: &str, finding: &Finding| {
        let line = if finding.line == 0 { String::new() } else { format!(":{}", finding.line) };
        format!("{word:<8} {}{line}: {}\n", plain(&finding.file.display().to_string()), plain(&finding.what))
    };
    let faults: String = found.faults.iter().map(|fault| told("fault", fault)).collect();
    let notes: String = found.notes.iter().map(|note| told("note", note)).collect();
    let mut text = format!("{faults}{notes}files    {}\nlines    {}\n", found.files, found.lines);
    if found.unchained > 0 {
        text.push_str(&format!("unhashed {}, the oldest ones, of an older version\n", found.unchained));
    }
    text.extend(found.last.map(|last| format!("last     {last}\n")));
    text
}

/// The trail's file in a folder: the one beside which only its numbered files are.
fn in_folder(folder: &Path) -> Result<PathBuf> {
    let wrong = |what: String| Error::new(Code::InvalidArgument, format!("{}: {what}", folder.display()));
    let cannot = |e: std::io::Error| wrong(format!("the folder cannot be read: {e}"));
    let mut found = Vec::new();
    for entry in folder.read_dir().map_err(cannot)? {
        let path = entry.map_err(cannot)?.path();
        let numbered = path.extension().is_some_and(|last| last.to_str().is_some_and(|last| last.parse::<u32>().is_ok()));
        if path.is_file() && !numbered {
            found.push(path);
        }
    }
    match &found[..] {
        [file] => Ok(file.clone()),
        [] => Err(wrong("there is no file in it".to_owned())),
        _ => Err(wrong("there are several files in it: name the trail's".to_owned())),
    }
}
