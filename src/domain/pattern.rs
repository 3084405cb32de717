//! Patterns in which `*` stands for any text.

/// Whether a text is what a pattern says: `*` stands for any text, also an empty one; every other character, and its case, is meant as
/// it is.
pub fn fits(pattern: &str, text: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else { return pattern == text };
    let Some(mut text) = text.strip_prefix(start) else { return false };
    let (middle, end) = rest.rsplit_once('*').unwrap_or(("", rest));
    // The first place of each piece leaves the most for those after it.
    for piece in middle.split('*') {
        match text.split_once(piece) {
            Some((_, after)) => text = after,
            None => return false,
        }
    }
    text.ends_with(end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pattern_is_of_the_whole_text() {
        for (pattern, text, wanted) in [
            ("main", "main", true),
            ("main", "mainline", false),
            ("main", "Main", false),
            ("*", "", true),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("*-prod-*", "eu-prod-1", true),
            ("*[bot]", "renovate[bot]", true),
            ("m?in", "main", false),
            ("é*é", "éaé", true),
        ] {
            assert_eq!(fits(pattern, text), wanted, "{pattern:?} {text:?}");
        }
    }

    /// By trying every length of what a star stands for.
    fn fits_naively(pattern: &[char], text: &[char]) -> bool {
        match pattern {
            [] => text.is_empty(),
            ['*', rest @ ..] => (0..=text.len()).any(|length| fits_naively(rest, &text[length..])),
            [first, rest @ ..] => text.first() == Some(first) && fits_naively(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_pattern_fits_as_by_trying(pattern in "[ab*]{0,7}", text in "[ab]{0,8}") {
            let chars = |text: &str| text.chars().collect::<Vec<_>>();
            prop_assert_eq!(fits(&pattern, &text), fits_naively(&chars(&pattern), &chars(&text)));
        }
    }
}
