//! The name that was probably meant.

/// What to write in place of a name that is not known.
pub(super) fn suggestion<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.into_iter().collect();
    match known.iter().min_by_key(|candidate| strsim::damerau_levenshtein(unknown, candidate)) {
        Some(nearest) => format!("did you mean {nearest:?}? Known here: {}", known.join(", ")),
        None => "no key is known here".to_owned(),
    }
}
