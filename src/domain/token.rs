//! Fencing tokens (Kleppmann, *How to do distributed locking*, "Making the lock safe with fencing").

use std::fmt;

use serde::{Deserialize, Serialize};

/// A fencing token: whoever holds a lock now has a larger one than everybody who held it before, so a store of the holder's own can
/// refuse whoever comes late. It is a time, microseconds since 1970, or one more than the token before.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FencingToken(u64);

impl FencingToken {
    /// No token is known: a stock server took the lock, or nothing is remembered of the key. It is smaller than every token.
    pub const NONE: FencingToken = FencingToken(0);
    /// It is larger than every token that was ever given.
    pub const MAX: FencingToken = FencingToken(u64::MAX);

    /// The token with this number; 0 is [`FencingToken::NONE`].
    pub const fn new(number: u64) -> FencingToken {
        FencingToken(number)
    }

    /// Its number; 0 for [`FencingToken::NONE`].
    pub const fn get(self) -> u64 {
        self.0
    }

    /// Whether no token is known.
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// The token, if one is known.
    pub fn known(self) -> Option<FencingToken> {
        (!self.is_none()).then_some(self)
    }
}

impl fmt::Display for FencingToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
