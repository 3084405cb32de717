//! Patterns of key names, as `KEYS` and `SCAN` read them (Redis's `stringmatchlen`).

/// Whether the name matches.
pub(super) fn matches(mut pattern: &[u8], mut name: &[u8]) -> bool {
    while let Some((&first, rest)) = pattern.split_first() {
        if name.is_empty() {
            break;
        }
        match first {
            b'*' => {
                let rest = &pattern[pattern.iter().take_while(|b| **b == b'*').count()..];
                return rest.is_empty() || (0..=name.len()).any(|skipped| matches(rest, &name[skipped..]));
            }
            b'?' => {
                pattern = rest;
            }
            b'[' => {
                let (is_in, behind) = class(rest, name[0]);
                if !is_in {
                    return false;
                }
                pattern = behind;
            }
            b'\\' if !rest.is_empty() => {
                if rest[0] != name[0] {
                    return false;
                }
                pattern = &rest[1..];
            }
            letter => {
                if letter != name[0] {
                    return false;
                }
                pattern = rest;
            }
        }
        name = &name[1..];
    }
    name.is_empty() && pattern.iter().all(|byte| *byte == b'*')
}

/// Whether a letter is in the class that begins here, and what stands behind the class.
fn class(pattern: &[u8], letter: u8) -> (bool, &[u8]) {
    let is_negated = pattern.first() == Some(&b'^');
    let mut at = usize::from(is_negated);
    let mut is_in = false;
    loop {
        match pattern.get(at) {
            Some(b'\\') if at + 1 < pattern.len() => {
                is_in |= pattern[at + 1] == letter;
                at += 2;
            }
            Some(b']') => {
                at += 1;
                break;
            }
            None => break,
            Some(&from) if pattern.get(at + 1) == Some(&b'-') && at + 2 < pattern.len() => {
                let to = pattern[at + 2];
                is_in |= (from.min(to)..=from.max(to)).contains(&letter);
                at += 3;
            }
            Some(&one) => {
                is_in |= one == letter;
                at += 1;
            }
        }
    }
    (is_in != is_negated, &pattern[at..])
}

#[test]
fn patterns_are_as_redis_reads_them() {
    for (pattern, name, is_match) in [
        ("pr/*", "pr/acme/infra", true),
        ("pr*", "product:1", true),
        ("global/*/lock", "global/apply/lock", true),
        ("global/*/lock", "global/lock", false),
        ("*::*::*", "host::repo::1", true),
        ("h?llo", "hello", true),
        ("h[^e]llo", "hello", false),
        ("h[a-f]llo", "hello", true),
        (r"a\*b", "a*b", true),
        (r"a\*b", "axb", false),
        ("", "", true),
        ("*", "", true),
        ("a", "", false),
    ] {
        assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), is_match, "{pattern} {name}");
    }
}
