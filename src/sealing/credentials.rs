//! Credentials within a value: sealed where they stand, so that the value stays JSON that stock reads.
//!
//! Redis and Atlantis's file cannot hold sealed records (D54): stock and scripts read owner and pull in the value. The secret in a value is the
//! user info of its clone URLs, which nobody reads there. So that alone is replaced: `https://user:token@host/…` is stored as
//! `https://atlock.<key id>.<nonce, ciphertext and tag in base64url>@host/…`, which is a URL still, and needs no escape in JSON.
//!
//! Invariants:
//! - What is opened is byte for byte what was sealed, and sealing is a function: equal values give equal bytes under one key.
//! - A credential opens only before the same scheme and host, in the member of the same name (associated data). So who can write to a store
//!   cannot have a token sent to a host of his own, nor shown by moving it from `CloneURL` to a URL that a page shows.
//! - What has the sealed form is not sealed again.
//!
//! Faults and their ends: a form that does not open (key unknown, changed, moved) is handed out as it stands, and counted ([`Closed`]). It
//! is no error: a lock with one can be listed and released as any other.
//!
//! Not kept from who can write to a store: putting a credential of before back, or that of another lock with the same host.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use memchr::memmem;

use super::credential_key::CredentialKeys;
use super::envelope::KeyId;
use super::user_info::{UserInfo, user_infos};
use crate::error::Result;

const MARK: &[u8] = b"atlock.";
/// `MARK` behind the slashes of a URL.
const BEGINNING: &[u8] = b"/atlock.";
/// Most key ids that are remembered.
const MOST_IDS: usize = 10;

/// What did not open.
#[derive(Debug, Default)]
pub struct Closed {
    /// How many by each key that is not known, of which ten at most are told apart.
    unknown: BTreeMap<KeyId, u64>,
    /// How many were changed, or moved to another URL.
    changed: u64,
}

impl Closed {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.unknown.values().sum::<u64>() + self.changed
    }

    /// Adds those of another.
    pub fn add(&mut self, other: &Closed) {
        self.changed += other.changed;
        for (id, count) in &other.unknown {
            self.note(*id, *count);
        }
    }

    fn note(&mut self, id: KeyId, count: u64) {
        if self.unknown.len() < MOST_IDS || self.unknown.contains_key(&id) {
            *self.unknown.entry(id).or_default() += count;
        }
    }

    /// What an operator should know, and do.
    pub fn warning(&self, keys: Option<&CredentialKeys>) -> Option<String> {
        let mut parts = Vec::new();
        if !self.unknown.is_empty() {
            let ids: Vec<String> = self.unknown.keys().map(ToString::to_string).collect();
            let given = keys.map_or_else(|| "it names none".to_owned(), |keys| format!("it has {}", keys.ids()));
            parts.push(format!(
                "credentials in stored locks or pull statuses are sealed under keys that locking.encryption does not have (wanted: {}; {given}): \
                 put their lines behind the first one, and reload; until then these clone URLs are shown sealed, and their locks can be released as ever",
                ids.join(", ")
            ));
        }
        if self.changed > 0 {
            parts.push(format!(
                "credentials in stored locks or pull statuses were changed, or moved to another URL, {} times read: these are shown sealed; \
                 find out who else writes to the store",
                self.changed
            ));
        }
        (!parts.is_empty()).then(|| parts.join("; "))
    }
}

/// Whether a value may have something to open.
pub fn may_be_sealed(value: &[u8]) -> bool {
    memmem::find(value, BEGINNING).is_some()
}

/// Whether a value has something to seal.
pub fn has_credentials(value: &[u8]) -> bool {
    user_infos(value).any(|at| is_to_be_sealed(&at, value))
}

/// The value with its credentials sealed under the first key.
pub fn sealed<'a>(value: &'a [u8], keys: &CredentialKeys) -> Result<Cow<'a, [u8]>> {
    let key = keys.first();
    replaced(value, |at| {
        if !is_to_be_sealed(at, value) {
            return Ok(None);
        }
        let sealed = key.seal(&place(at, value), &value[at.info.clone()])?;
        Ok(Some(format!("atlock.{}.{}", key.id, URL_SAFE_NO_PAD.encode(sealed)).into_bytes()))
    })
}

/// The value with those of its credentials opened that these keys open; the others are noted in `closed`.
pub fn opened<'a>(value: &'a [u8], keys: Option<&CredentialKeys>, closed: &mut Closed) -> Cow<'a, [u8]> {
    if !may_be_sealed(value) {
        return Cow::Borrowed(value);
    }
    let opened = replaced(value, |at| {
        let Some((id, sealed)) = parse(&value[at.info.clone()]) else { return Ok(None) };
        let Some(key) = keys.and_then(|keys| keys.of(id)) else {
            closed.note(id, 1);
            return Ok(None);
        };
        let plain = key.open(&place(at, value), &sealed);
        closed.changed += u64::from(plain.is_none());
        Ok(plain)
    });
    // Opening makes no error.
    opened.unwrap_or(Cow::Borrowed(value))
}

fn is_to_be_sealed(at: &UserInfo, value: &[u8]) -> bool {
    at.is_secret(value) && parse(&value[at.info.clone()]).is_none()
}

/// The key id and the bytes of a sealed form.
fn parse(info: &[u8]) -> Option<(KeyId, Vec<u8>)> {
    let text = std::str::from_utf8(info.strip_prefix(MARK)?).ok()?;
    let (id, sealed) = text.split_once('.')?;
    // Only as it is written: one text for each id.
    let id = KeyId::parse(id).filter(|known| known.to_string() == id)?;
    Some((id, URL_SAFE_NO_PAD.decode(sealed).ok()?))
}

/// Where a credential stands, as associated data: each part behind its length.
fn place(at: &UserInfo, value: &[u8]) -> Vec<u8> {
    let parts = [&at.member, &at.scheme, &at.host].map(|range| &value[range.clone()]);
    parts.iter().flat_map(|part| [&(part.len() as u64).to_be_bytes()[..], part].concat()).collect()
}

/// The value with other user infos, where `other` gives one.
fn replaced(value: &[u8], mut other: impl FnMut(&UserInfo) -> Result<Option<Vec<u8>>>) -> Result<Cow<'_, [u8]>> {
    let (mut whole, mut done) = (Vec::new(), 0);
    for at in user_infos(value) {
        if let Some(other) = other(&at)? {
            whole.extend_from_slice(&value[done..at.info.start]);
            whole.extend_from_slice(&other);
            done = at.info.end;
        }
    }
    if done == 0 {
        return Ok(Cow::Borrowed(value));
    }
    whole.extend_from_slice(&value[done..]);
    Ok(Cow::Owned(whole))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::lock::ProjectLock;
    use crate::sealing::MasterKeys;

    fn keys(digits: &[&str]) -> CredentialKeys {
        let lines: Vec<String> = digits.iter().map(|digits| digits.repeat(32)).collect();
        MasterKeys::parse(lines.join("\n").as_bytes(), "test").unwrap().credential_keys()
    }

    fn seal(value: &str, digits: &str) -> String {
        String::from_utf8(sealed(value.as_bytes(), &keys(&[digits])).unwrap().into_owned()).unwrap()
    }

    /// What is opened, and how many did not open.
    fn open(value: &str, digits: &[&str]) -> (String, u64) {
        let (mut closed, keys) = (Closed::default(), (!digits.is_empty()).then(|| keys(digits)));
        let opened = opened(value.as_bytes(), keys.as_ref(), &mut closed).into_owned();
        assert_eq!(closed.warning(keys.as_ref()).is_some(), closed.count() > 0);
        (String::from_utf8(opened).unwrap(), closed.count())
    }

    const LOCK: &str = r#"{"Project":{"RepoFullName":"a/b","Path":"."},"Pull":{"Num":7,"URL":"https://h/p","BaseRepo":{"CloneURL":"https://bot:s3cret@h:1/a.git","SanitizedCloneURL":"https://bot:\u003credacted\u003e@h:1/a.git"}},"User":{"Username":"u"},"Workspace":"w"}"#;

    #[test]
    fn a_lock_stays_a_lock_and_comes_back() {
        let stored = seal(LOCK, "ab");
        assert!(!stored.contains("s3cret") && stored.contains(r#""CloneURL":"https://atlock."#) && stored.contains("@h:1/a.git"));
        assert!(stored.contains(r"https://bot:\u003credacted\u003e@h:1/a.git"), "{stored}");
        assert_eq!(ProjectLock::parse(stored.as_bytes()).unwrap(), ProjectLock::parse(LOCK.as_bytes()).unwrap());
        let sealed = stored.split("https://atlock.").nth(1).unwrap().split('@').next().unwrap();
        assert!(sealed.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{sealed}");
        assert_eq!(open(&stored, &["ab"]), (LOCK.to_owned(), 0));
        assert_eq!(seal(LOCK, "ab"), stored, "equal bytes");
        assert_eq!(seal(&stored, "ab"), stored, "not again");
        assert_eq!(seal(&stored, "cd"), stored, "not again under another key");
        assert_ne!(seal(LOCK, "cd"), stored);
    }

    /// The bytes in a store are a format: another version must read them. These were also computed by another program.
    #[test]
    fn the_stored_form_stays_what_it_is() {
        let stored = seal(r#"{"CloneURL":"https://bot:s3cret@h/a"}"#, "ab");
        let form = "17031b302e3e14d8.r4ksiNFjUowU7dV16G8aj3V4towj7hznHkPqgSHgy3l4KZwdAfBeYiFru3pyw1EAv_U";
        assert_eq!(stored, format!(r#"{{"CloneURL":"https://atlock.{form}@h/a"}}"#));
    }

    #[test]
    fn a_form_that_does_not_open_is_left_as_it_is_and_counted() {
        let stored = seal(LOCK, "ab");
        for (value, digits) in [
            (stored.clone(), &["cd"][..]),
            (stored.clone(), &[]),
            (stored.replace("@h:1/", "@evil/"), &["ab"]),
            (stored.replace("https://atlock", "http://atlock"), &["ab"]),
            (stored.replace("\"CloneURL\"", "\"URL\""), &["ab"]),
            (stored.replace("\"CloneURL\":", "\"CloneURL\":\"x "), &["ab"]),
        ] {
            assert_eq!(open(&value, digits), (value, 1));
        }
        for no_form in
            ["https://atlock.x.y@h", "https://atlock.ABCDEFABCDEFABCD.AAAA@h", "https://atlock.0011223344556677.A@h", "/atlock."]
        {
            assert_eq!(open(no_form, &["ab"]), (no_form.to_owned(), 0));
        }
        let short = "https://atlock.0011223344556677.AAAA@h";
        assert_eq!(open(short, &["ab"]), (short.to_owned(), 1));
    }

    #[test]
    fn after_a_rotation_both_open_and_the_first_seals() {
        let (old, new) = (seal(LOCK, "ab"), seal(LOCK, "cd"));
        for stored in [&old, &new] {
            assert_eq!(open(stored, &["cd", "ab"]), (LOCK.to_owned(), 0));
        }
        let both = sealed(LOCK.as_bytes(), &keys(&["cd", "ab"])).unwrap().into_owned();
        assert_eq!(both, new.as_bytes());
    }

    #[test]
    fn the_warning_names_the_keys_and_no_more_than_ten() {
        let mut closed = Closed::default();
        let one = keys(&["ab"]);
        opened(seal(LOCK, "cd").as_bytes(), Some(&one), &mut closed);
        let text = closed.warning(Some(&one)).unwrap();
        assert!(text.contains(&keys(&["cd"]).ids()) && text.contains(&format!("it has {}", one.ids())), "{text}");
        for id in 0..100 {
            opened(format!("https://atlock.{id:016x}.AAAA@h").as_bytes(), None, &mut closed);
        }
        assert_eq!(closed.unknown.len(), MOST_IDS);
        let mut sum = Closed::default();
        sum.add(&closed);
        assert_eq!(sum.count(), closed.count());
    }

    proptest! {
        #[test]
        fn what_is_sealed_comes_back_and_no_changed_one_opens(
            before in "[ -~]{0,20}", info in "[!$-.0-9A-Za-z\\\\]{1,40}", host in "[a-z0-9.:]{0,12}", at: prop::sample::Index, flip in 1_u8..,
        ) {
            let value = format!(r#"{before}{{"CloneURL":"https://{info}@{host}/x"}}"#);
            let keys = keys(&["ab"]);
            let stored = sealed(value.as_bytes(), &keys).unwrap().into_owned();
            let mut closed = Closed::default();
            prop_assert_eq!(&*opened(&stored, Some(&keys), &mut closed), value.as_bytes());
            prop_assert_eq!(closed.count(), 0);
            if let Some(start) = memmem::rfind(&stored, b"atlock.") {
                let end = start + memmem::find(&stored[start..], b"@").unwrap();
                let mut changed = stored.clone();
                changed[start + at.index(end - start)] ^= flip;
                let mut closed = Closed::default();
                prop_assert_ne!(&*opened(&changed, Some(&keys), &mut closed), value.as_bytes());
            }
        }

        #[test]
        fn no_bytes_make_it_panic_and_all_come_back(value: Vec<u8>, text in "([:/@\"\\\\ a.]|://|atlock\\.|https)*") {
            for value in [&value[..], text.as_bytes()] {
                let keys = keys(&["ab"]);
                let stored = sealed(value, &keys).unwrap();
                let mut closed = Closed::default();
                prop_assert_eq!(&*opened(&stored, Some(&keys), &mut closed), value);
            }
        }
    }
}
