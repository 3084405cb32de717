//! Copying and comparing: the target gets what the source has, pass by pass, until a look at both finds nothing left to do.
//!
//! The last pass changes nothing: it has read both stores anew, and compared each entry byte for byte.

use super::entry::{Entry, Survey};
use super::merge::{Old, Plan, plan};
use super::open::{Options, Tell};
use super::place::Place;
use crate::domain::token::FencingToken;
use crate::error::{Code, Error, Result};
use crate::store::contract::local::{EntryKey, Held};

/// Most passes: the second finds nothing to do, unless a server runs.
const MAX_PASSES: u32 = 5;
/// How many changes are made between two words of progress.
const BATCH: usize = 256;

/// What the last pass found, and how much was done before.
pub(super) struct Brought {
    pub source: Survey,
    pub target: Survey,
    pub last: Plan,
    pub changes: usize,
    pub removals: usize,
}

/// Brings the target to what the source has; `source` reads that anew.
pub(super) fn bring(
    source: &dyn Fn() -> Result<Survey>,
    old: &Old,
    target: &dyn Place,
    options: Options<'_>,
    tell: &dyn Tell,
) -> Result<Brought> {
    let (mut changes, mut removals) = (0, 0);
    for _ in 0..MAX_PASSES {
        let (ours, theirs) = (as_it_can_be(source()?, target), target.survey()?);
        let todo = plan(&ours, old, &theirs, options.on_conflict);
        refuse(&ours, &todo, options)?;
        if todo.steps.is_empty() {
            compare(&ours, &theirs, &todo)?;
            return Ok(Brought { source: ours, target: theirs, last: todo, changes, removals });
        }
        tell.begin("copying", todo.steps.len());
        for batch in todo.steps.chunks(BATCH) {
            let made = target.make(batch)?;
            changes += made;
            removals += batch.iter().filter(|step| step.new.is_none()).count();
            tell.advance(batch.len());
        }
    }
    let text = "the two stores keep changing: does a server run on one of them? Stop it, and give the command again";
    Err(Error::new(Code::Timeout, text))
}

/// What a store has, as another one can have it.
pub(super) fn as_it_can_be(mut survey: Survey, target: &dyn Place) -> Survey {
    for (key, Entry { held, at }) in std::mem::take(&mut survey.entries) {
        if let Some(reason) = target.cannot_have(&key, &held.value) {
            survey.skip(&at.to_string(), reason.to_owned());
            continue;
        }
        let token = if target.has_tokens() { held.token } else { FencingToken::NONE };
        survey.entries.insert(key, Entry { held: Held { token, ..held }, at });
    }
    survey
}

fn refuse(source: &Survey, todo: &Plan, options: Options<'_>) -> Result<()> {
    if let Some(conflict) = todo.conflicts.first() {
        let text = format!(
            "both stores hold the {}: {} in the source, {} in the target ({} such). Nothing was overwritten. Release one of each two, or say \
             whose stays by --conflicts",
            conflict.key,
            conflict.source,
            conflict.target,
            todo.conflicts.len()
        );
        return Err(Error::new(Code::Unsupported, text));
    }
    match source.skipped.first() {
        Some(skipped) if options.strict => {
            let text =
                format!("{} entries cannot be taken along (--strict): {}: {}", source.skipped.len(), skipped.key, skipped.reason);
            Err(Error::new(Code::EntryUnreadable, text))
        }
        _ => Ok(()),
    }
}

/// Each entry of the source, byte for byte. Of as many as the plan keeps the target has its own.
fn compare(source: &Survey, target: &Survey, plan: &Plan) -> Result<()> {
    let differ = source.entries.iter().filter(|(key, entry)| {
        target.entries.get(*key).is_none_or(|theirs| theirs.held.value != entry.held.value) && !matches!(key, EntryKey::Queue(_))
    });
    let differ: Vec<_> = differ.map(|(key, _)| key.to_string()).collect();
    if differ.len() <= plan.kept {
        return Ok(());
    }
    let text = format!("after copying, {} entries differ, among them the {}", differ.len(), differ[0]);
    Err(Error::new(Code::Internal, text))
}
