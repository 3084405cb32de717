//! Leaves credentials out of what an audit trail tells.

/// Leaves out what stands between `://` and `@` in a URL: an error may quote what a program of others said.
pub(super) fn without_credentials<S: serde::Serializer>(
    detail: &Option<&str>,
    serializer: S,
) -> std::result::Result<S::Ok, S::Error> {
    let mut rest = detail.unwrap_or_default();
    let mut shown = String::with_capacity(rest.len());
    while let Some(at) = rest.find("://") {
        let (before, address) = rest.split_at(at + 3);
        let end = address.find(|c: char| c == '/' || c == '"' || c.is_whitespace()).unwrap_or(address.len());
        shown.push_str(before);
        rest = &address[address[..end].rfind('@').unwrap_or(0)..];
    }
    shown.push_str(rest);
    serializer.serialize_str(&shown)
}
