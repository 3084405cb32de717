//! Somebody damages a store, or puts an older part of it back.

use super::*;

impl World {
    /// Somebody damages the store, or puts an older part of it back: it is refused and left alone, or complete.
    pub(super) fn harm(&mut self) {
        let dir = Path::new(DIR);
        self.disk.kill();
        let whole = self.disk.image(dir);
        if whole.is_empty() {
            return;
        }
        let names_last = self.journal_names(self.known.meta.sequence);
        let (what, in_journal) = match self.older.take().filter(|_| self.random.percent(50)) {
            Some(older) => {
                self.disk.restore(&dir.join("sled"), &older);
                ("older", false)
            }
            None => {
                let part = PARTS[self.random.index(PARTS.len())];
                let random = &mut self.random;
                if self.disk.damage(&dir.join(part), &mut |end| random.below(end)).is_none() {
                    return;
                }
                ("damage", part == "journal")
            }
        };
        let harmed = self.data();
        let process = self.disk.process(hook(&Arc::new(Mutex::new(Plan::none()))));
        match Store::open(&process, &self.clock) {
            Ok(store) => {
                let found = store.content();
                // The journal's last record, damaged, looks like a torn one.
                let is_complete =
                    found == self.known || self.perhaps.as_ref() == Some(&found) || (in_journal && found == self.before);
                // A crash tore the record that stood where the last ones before had been (`store::sled`, "Not detected").
                let is_complete = is_complete || (!names_last && found.meta.sequence < self.known.meta.sequence);
                assert!(is_complete, "{}, {what}: less was found, or more: {:?}", self.course(), found.meta);
                self.coverage.count(format!("{what}: complete"));
                drop(store.close());
            }
            Err(error) => {
                assert!(
                    matches!(error.code(), Code::StoreDamaged | Code::StoreNewerFormat),
                    "{}, {what}: {error}",
                    self.course()
                );
                assert!(self.data() == harmed, "{}, {what}: it was changed: {error}", self.course());
                self.coverage.count(format!("{what}: refused"));
            }
        }
        self.disk.kill();
        self.disk.restore(dir, &whole);
    }

    /// Whether a whole record of this group, or of a later one, is in the journal.
    fn journal_names(&self, sequence: u64) -> bool {
        let process = self.disk.process(hook(&Arc::new(Mutex::new(Plan::none()))));
        let opened = Journal::open(&process, &Path::new(DIR).join("journal"));
        let last = opened.ok().and_then(|(_, records)| records?.last_key_value().map(|(last, _)| *last));
        self.disk.kill();
        last.unwrap_or(0) >= sequence
    }

    /// What counts of the folder.
    fn data(&self) -> Image {
        let mut all = self.disk.image(Path::new(DIR));
        // The saved files are put back, whole, before anything else.
        if all.contains_key(Path::new("sled.saved")) {
            all.retain(|path, _| !path.starts_with("sled"));
            let sled = |path: PathBuf| {
                path.strip_prefix("sled.saved").map(|below| Path::new("sled").join(below)).unwrap_or(path.clone())
            };
            all = all.into_iter().map(|(path, bytes)| (sled(path), bytes)).collect();
        }
        all.retain(|path, _| ["sled", "journal", "format.json"].iter().any(|part| path.starts_with(part)));
        all
    }
}
