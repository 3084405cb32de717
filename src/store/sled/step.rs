//! Where a test may make the disk fail, or slow.

use std::io;
use std::sync::Arc;

/// The steps of a commit, and of the checkpoint that comes before some and behind others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The group goes to the journal, durably.
    Journal,
    /// sled applies the group.
    Apply,
    /// A checkpoint: sled hands all to the kernel.
    Flush,
    /// A checkpoint: fdatasync of sled's log.
    Sync,
}

/// Called before each step; an error stands for the step's own. For tests: it injects I/O errors and delays.
pub type StepHook = Arc<dyn Fn(Step) -> io::Result<()> + Send + Sync>;
