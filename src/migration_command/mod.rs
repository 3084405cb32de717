//! The commands `migrate`, `rollback` and `restore`: what may be typed, what is done, what is printed. The program `atlock` has them, and the
//! linked server's, as `atlantis locking`: both call this.

mod args;
mod metrics;
mod run;
mod show;
mod tell;
mod typed;

pub use self::args::{AboutMigration, Common, Conflicts, Migrate, Restore, Rollback};
pub use self::run::{migrate, restore, rollback};
pub use self::show::Printed;
pub use self::typed::{Typed, failure, typed};
