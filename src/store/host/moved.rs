//! The mark of a migration in a host store. The host store also keeps its own program's servers away while the mark refuses, which look for
//! no mark: Atlantis's BoltDB file in Go has another name then (`go/internal/bolthost/moved.go`).

use serde::Deserialize;

use super::wire::read;
use super::{HostStore, OP_MIGRATION};
use crate::error::Result;
use crate::store::moved::Mark;

#[derive(Deserialize)]
struct Answer {
    mark: Option<String>,
}

impl HostStore {
    /// Its mark; `named` is what the store is called.
    pub fn migration_mark(&self, named: &str) -> Result<Option<Mark>> {
        let answer = self.call(OP_MIGRATION, &serde_json::json!({}))?;
        let Answer { mark } = read(OP_MIGRATION, &answer)?;
        mark.map(|text| Mark::decode(text.as_bytes(), named)).transpose()
    }

    /// Gives it this mark, or takes it away; durable when it returns.
    pub fn set_migration_mark(&self, mark: Option<&Mark>, named: &str) -> Result<()> {
        let set = match mark {
            None => serde_json::json!({ "mark": null }),
            Some(mark) => {
                let text = String::from_utf8_lossy(&mark.encode()?).into_owned();
                let refusal = mark.refuses().then(|| mark.refusal(named).message().to_owned());
                serde_json::json!({ "mark": text, "refusal": refusal, "state": mark.state })
            }
        };
        self.call(OP_MIGRATION, &serde_json::json!({ "set": set })).map(drop)
    }
}
