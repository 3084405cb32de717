//! Takes the lock of one project for pull request 1, and says what happened: `cargo run --example take_lock -- ./locks`.
#![allow(clippy::print_stdout)]

use std::error::Error;
use std::sync::Arc;

use atlock::clock::SystemClock;
use atlock::config::Config;
use atlock::service::Service;
use atlock::store::Granted;

const LOCK: &[u8] = br#"{"Project":{"RepoFullName":"acme/infra","Path":"network"},"Workspace":"default","Pull":{"Num":1}}"#;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).ok_or("usage: take_lock <folder for the locks>")?;
    // JSON is YAML.
    let settings = serde_json::json!({"locking": {"backend": "sled", "data_dir": folder}}).to_string();
    let locks = Service::open(&Config::parse(&settings, "the settings")?, None, Arc::new(SystemClock))?;

    match locks.try_lock(LOCK)? {
        Granted::Yes { .. } => println!("took the lock of acme/infra, folder network, for pull request 1"),
        Granted::Held { .. } | Granted::NotYet => println!("the lock is held already"),
    }
    println!("locks in the store: {}", String::from_utf8(locks.list()?.into_array()?)?);
    Ok(locks.close()?)
}
