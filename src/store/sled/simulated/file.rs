//! One file: what is durable, and what a reader sees.

use std::collections::BTreeMap;

/// What a disk writes whole or not at all, bytes.
const SECTOR: usize = 512;
/// So many of the versions that a sector had since the last sync are remembered, beside the newest.
const VERSIONS: usize = 2;
/// Stands for the whole of an operation where a part of one can be done.
pub(super) const ALL: u8 = u8::MAX;

/// So much of `whole` as `part` says.
pub(super) fn share(part: u8, whole: usize) -> usize {
    whole * usize::from(part) / usize::from(ALL)
}

/// Draws a number below the one given.
pub(super) type Chance<'a> = &'a mut dyn FnMut(u64) -> u64;

#[derive(Clone, Debug, Default)]
pub(super) struct File {
    /// What a reader sees.
    now: Vec<u8>,
    /// What is durable.
    base: Vec<u8>,
    /// The smallest length that the file had since the last sync.
    shortest: usize,
    /// The sectors that were written since, with what they were between.
    dirty: BTreeMap<usize, Vec<Vec<u8>>>,
}

impl File {
    /// A file that is durable.
    pub(super) fn durable(bytes: Vec<u8>) -> File {
        File { shortest: bytes.len(), base: bytes.clone(), now: bytes, dirty: BTreeMap::new() }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.now
    }

    pub(super) fn write(&mut self, bytes: &[u8], at: usize) {
        let end = at + bytes.len();
        if bytes.is_empty() {
            return;
        }
        // What lies between is written, too: as zeros.
        for sector in at.min(self.now.len()) / SECTOR..=(end - 1) / SECTOR {
            let old = self.now.get(sector * SECTOR..).map_or(&[][..], |rest| &rest[..rest.len().min(SECTOR)]);
            match self.dirty.get_mut(&sector) {
                Some(versions) if versions.len() < VERSIONS => versions.push(old.to_vec()),
                Some(_) => {}
                None => drop(self.dirty.insert(sector, Vec::new())),
            }
        }
        self.now.resize(self.now.len().max(end), 0);
        self.now[at..end].copy_from_slice(bytes);
    }

    /// Writes what is durable at once.
    pub(super) fn write_durably(&mut self, bytes: &[u8], at: usize) {
        self.write(bytes, at);
        let end = at + bytes.len();
        self.base.truncate(self.shortest);
        self.base.resize(self.base.len().max(end), 0);
        self.shortest = self.base.len();
        self.base[at..end].copy_from_slice(bytes);
        self.dirty.retain(|sector, _| sector * SECTOR < at || (sector + 1) * SECTOR > end);
    }

    pub(super) fn cut(&mut self, length: usize) {
        self.now.truncate(length);
        self.shortest = self.shortest.min(length);
        self.dirty.retain(|sector, _| sector * SECTOR < length);
    }

    /// Makes a part of the dirty sectors durable. The others stay dirty, or are forgotten: then a reader goes on seeing what no later
    /// sync writes.
    pub(super) fn sync(&mut self, part: u8, forget: bool) {
        if part == 0 && !forget {
            return;
        }
        self.base.truncate(self.shortest);
        self.base.resize(self.now.len(), 0);
        self.shortest = self.base.len();
        let count = share(part, self.dirty.len());
        for sector in self.dirty.keys().take(count) {
            let (start, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(self.now.len()));
            self.base[start..end].copy_from_slice(&self.now[start..end]);
        }
        let done: Vec<usize> = self.dirty.keys().take(if forget { usize::MAX } else { count }).copied().collect();
        for sector in done {
            self.dirty.remove(&sector);
        }
    }

    /// What a crash leaves.
    pub(super) fn crash(&mut self, chance: Chance<'_>) {
        let was_cut = self.shortest < self.base.len();
        // What came behind the cut needs the cut.
        if !(was_cut && chance(2) == 0) {
            self.base.truncate(self.shortest);
            self.keep_some(chance);
        }
        *self = File::durable(std::mem::take(&mut self.base));
    }

    fn keep_some(&mut self, chance: Chance<'_>) {
        let (from, to) = (self.base.len(), self.now.len());
        let length = match chance(4) {
            0 => from,
            1 if to > from => from + usize::try_from(chance((to - from) as u64)).expect("is small"),
            _ => to,
        };
        self.base.resize(length.max(from), 0);
        // None, few, most, all.
        let survives = [0, 20, 80, 100][usize::try_from(chance(4)).expect("is small")];
        for (sector, versions) in &self.dirty {
            if chance(100) >= survives {
                continue;
            }
            let start = sector * SECTOR;
            let newest = self.now.get(start..).unwrap_or_default();
            let version = match versions.get(usize::try_from(chance(versions.len() as u64 + 3)).expect("is small")) {
                Some(version) => version,
                None => &newest[..newest.len().min(SECTOR)],
            };
            let length = version.len().min(self.base.len().saturating_sub(start));
            if length > 0 {
                self.base[start..start + length].copy_from_slice(&version[..length]);
            }
        }
    }

    /// Flips bits of a byte, on the disk.
    pub(super) fn damage(&mut self, at: usize, bits: u8) {
        for bytes in [&mut self.now, &mut self.base] {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Random;
    use super::*;

    fn after_crash(file: &File, seed: u64) -> Vec<u8> {
        let (mut file, mut random) = (file.clone(), Random::new(seed));
        file.crash(&mut |end| random.below(end));
        file.now
    }

    #[test]
    fn what_was_synced_survives_and_of_the_rest_any_sectors() {
        let mut file = File::default();
        file.write(&[1; 3 * SECTOR], 0);
        file.sync(ALL, true);
        file.write(&[2; 2 * SECTOR], 2 * SECTOR);
        let all: std::collections::BTreeSet<Vec<u8>> = (0..500).map(|seed| after_crash(&file, seed)).collect();
        assert!(all.iter().all(|bytes| bytes.len() >= 3 * SECTOR && bytes[..2 * SECTOR] == [1; 2 * SECTOR]));
        for (second, third) in [(1, None), (2, None), (1, Some(2)), (2, Some(2)), (2, Some(0))] {
            let mut wanted = vec![1; 2 * SECTOR];
            wanted.extend([second; SECTOR]);
            wanted.extend(third.map_or(Vec::new(), |third| vec![third; SECTOR]));
            assert!(all.contains(&wanted), "{second} {third:?}");
        }
    }

    #[test]
    fn a_failed_sync_forgets_and_the_next_one_does_not_know() {
        let mut file = File::durable(vec![1; 2 * SECTOR]);
        file.write(&[2; 2 * SECTOR], 0);
        file.sync(128, true);
        file.sync(ALL, true);
        assert_eq!(file.bytes(), [2; 2 * SECTOR]);
        assert_eq!(after_crash(&file, 1), [[2; SECTOR], [1; SECTOR]].concat());
    }

    #[test]
    fn a_durable_write_survives_and_a_cut_may() {
        let mut file = File::default();
        file.write_durably(&[1; 2 * SECTOR], 0);
        file.cut(SECTOR);
        let lengths: std::collections::BTreeSet<usize> = (0..50).map(|seed| after_crash(&file, seed).len()).collect();
        assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [SECTOR, 2 * SECTOR]);
    }
}
