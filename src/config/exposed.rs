//! Files and folders of the settings that others of this machine may read or change.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Config;
use crate::private_file;

impl Config {
    /// Texts for an operator about files that hold a secret, and about the data folder. (A key file of `locking.encryption` is refused instead.)
    pub fn exposed(&self) -> Vec<String> {
        let redis =
            [("locking.enhanced.redis", &self.locking.enhanced.redis), ("locking.shadow.redis", &self.locking.shadow.redis)];
        let secrets = redis.into_iter().flat_map(|(at, redis)| {
            [
                (at, "password_file", redis.password_file.as_deref()),
                (at, "tls.key_file", redis.tls.key_file.as_deref()),
                (at, "sentinel.password_file", redis.sentinel.password_file.as_deref()),
                (at, "sentinel.tls.key_file", redis.sentinel.tls.key_file.as_deref()),
            ]
        });
        let told = secrets.filter_map(|(at, name, path)| {
            let path = path?;
            Some(format!("{at}.{name} {}: {}", path.display(), private_file::secret(path)?))
        });
        told.chain(self.locking.data_dir.as_deref().and_then(data_folder)).collect()
    }
}

/// A volume's group may be given all rights by who mounts it; everybody is never meant.
fn data_folder(folder: &Path) -> Option<String> {
    let mode = std::fs::metadata(folder).ok()?.mode() & 0o777;
    let text = || {
        format!(
            "locking.data_dir {}: everybody on this machine may write there (mode {mode:04o}): `chmod o-rwx` it",
            folder.display()
        )
    };
    (mode & 0o002 != 0).then(text)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn what_others_have_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (password, data) = (folder.path().join("password"), folder.path().join("data"));
        fs::write(&password, "secret").unwrap();
        fs::create_dir(&data).unwrap();
        let mut config = Config::default();
        config.locking.enhanced.redis.password_file = Some(password.clone());
        config.locking.data_dir = Some(data.clone());
        let told = |file: u32, dir: u32| {
            fs::set_permissions(&password, Permissions::from_mode(file)).unwrap();
            fs::set_permissions(&data, Permissions::from_mode(dir)).unwrap();
            config.exposed()
        };
        assert_eq!(told(0o640, 0o770), Vec::<String>::new());
        let both = told(0o644, 0o777);
        assert!(both.len() == 2 && both[0].contains("redis.password_file") && both[1].contains("locking.data_dir"), "{both:?}");
        assert!(!both[0].contains("secret"));
    }
}
