//! The lines of the socket, for `crate::fuzzing`.
#![allow(clippy::expect_used)] // a panic is what they tell by

use super::protocol::{Answer, Greeting, Request, SocketOperation, as_line};

/// A line of a client, and one of a server.
pub(crate) fn line(bytes: &[u8]) {
    if let Ok(request) = serde_json::from_slice::<Request<'_>>(bytes) {
        if let Err(e) = SocketOperation::named(&request.op) {
            assert!(!e.message().contains('\n'), "an error breaks its line: {e}");
        }
        let line = as_line(serde_json::to_vec(&request).expect("what was read is written"));
        let breaks = line.iter().filter(|byte| **byte == b'\n').count();
        assert!(breaks == 1 && serde_json::from_slice::<Request<'_>>(&line).is_ok(), "a request is not one line");
    }
    if let Ok(Answer::Error(error)) = serde_json::from_slice::<Answer<'_>>(bytes) {
        drop(error.error());
    }
    drop(serde_json::from_slice::<Greeting>(bytes));
}
