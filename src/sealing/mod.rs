//! Encryption at rest: what is stored is sealed under a data key, and the data keys under a master key of the operator's.
//!
//! **Keys.** The *master key* is the operator's: `locking.encryption` says where it is (`source.rs`). It never seals a record. A *data key*
//! is 32 random bytes, made by the store; the store keeps it beside its records, wrapped (sealed) under the master key (`ring.rs`). So a new
//! master key needs no record to be written anew: the data keys are wrapped again when the store is opened, and a fresh data key seals from
//! then on. Several master keys may be given: the first wraps, the others only open. Each key has an id: of a master key the beginning of
//! a digest, of a data key eight random bytes.
//!
//! **The cipher** is XChaCha20-Poly1305. Its nonces have 24 bytes, so that random ones never meet, and no counter has to survive a
//! crash or a store that was put back from a backup; it is fast without special instructions, and its code has no tables that a
//! neighbour on the machine could watch.
//!
//! **A sealed record** (`envelope.rs`): version (1 byte), id of the data key (8), nonce (24), ciphertext, tag (16). *Associated data*: which
//! kind of record it is, its key's name, and what stands beside it in clear. So a value that is moved to another key does not open, nor
//! does one whose fencing token was changed. An older value of the same key does open: who can put back old bytes can put back the
//! whole folder.
//!
//! **In clear** stay the names of locks (repository, path, workspace), pull numbers, fencing tokens, times and lengths: operators and
//! indexes need them.
//!
//! **Mixed reading.** A record says itself whether it is sealed. One from before the key was set is read as it is, and sealed when it is
//! next written, or by `atlock reseal`.
//!
//! **Credentials** in stores that cannot be sealed, because stock reads them: `credentials.rs`.
//!
//! Faults and their ends:
//! - No master key is set, and there are data keys: [`Code::EncryptionKey`](crate::error::Code); nothing is opened, nothing is changed.
//! - No master key that is set opens a data key: the same, with the ids that were wanted and given.
//! - A record was changed: it alone does not open. A stand-in takes the value's place (`stand_in`), which no reader takes for a lock: the
//!   entry is listed as unreadable, with a text of its own, and the lock stays held.

mod credential_key;
pub(crate) mod credentials;
mod envelope;
mod master;
mod ring;
mod source;
pub(crate) mod user_info;

pub(crate) use self::credential_key::CredentialKeys;
pub use self::envelope::{KeyId, Sealing};
pub(crate) use self::envelope::{PLAIN, key_id};
pub use self::master::MasterKeys;
pub use self::ring::{Opened, Ring};
pub use self::source::read;
pub(crate) use crate::domain::lock::stand_in;
