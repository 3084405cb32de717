//! Who may read and change a file that holds a secret.
//!
//! Each file is looked at by its own metadata, behind all links, as the kernel will open it. Who looks is this process's user; root may do
//! all anyway, so files of root are as good as one's own. Access lists (`setfacl`) are not looked at, but for what they show in the mode.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// What is wrong with a file, for a person: who else may do what with it; `None` if nothing is.
pub(crate) fn secret(path: &Path) -> Option<String> {
    let found = std::fs::metadata(path).ok()?;
    changeable(&found).or_else(|| {
        let mode = found.mode() & 0o777;
        (mode & 0o004 != 0).then(|| format!("everybody on this machine may read it (mode {mode:04o}): `chmod o-rwx` it"))
    })
}

fn changeable(found: &Metadata) -> Option<String> {
    let (mode, owner, us) = (found.mode() & 0o777, found.uid(), rustix::process::geteuid().as_raw());
    if owner != us && owner != 0 {
        return Some(format!("its owner is user {owner}, who may change it, and this process runs as user {us}: `chown` it"));
    }
    let others = match (mode & 0o020 != 0, mode & 0o002 != 0) {
        (_, true) => "everybody on this machine may",
        (true, false) => "its group may",
        (false, false) => return None,
    };
    Some(format!("{others} write to it (mode {mode:04o}): `chmod go-w` it"))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn modes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "x").unwrap();
        for (mode, wanted) in [
            (0o600, None),
            (0o640, None),
            (0o644, Some("may read it (mode 0644)")),
            (0o660, Some("its group may write")),
            (0o602, Some("everybody on this machine may write")),
        ] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let told = secret(&file);
            let is_as_wanted =
                told.as_deref().map_or(wanted.is_none(), |told| wanted.is_some_and(|wanted| told.contains(wanted)));
            assert!(is_as_wanted, "{mode:o}: {told:?}");
        }
        assert_eq!(secret(&folder.path().join("none")), None);
    }
}
