//! Rows in columns, for a person; and keys as a shell takes them.

use atlock::queue::freeze::plain;
use comfy_table::{ContentArrangement, Table, presets};

/// Rows below a line of headers, in columns. Lines are as long as they have to be: a terminal may be narrower, a pipe is not.
pub fn table(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled).set_header(headers).add_rows(rows);
    for column in table.column_iter_mut() {
        column.set_padding((0, 2));
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A key as it can be copied into the next command: quoted for a shell where it has to be, and without what a terminal would obey.
pub fn key(key: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:@%,".contains(c);
    if !key.is_empty() && key.chars().all(is_plain) { key.to_owned() } else { format!("'{}'", plain(key).replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let rows = vec![vec!["a".to_owned(), "#1".to_owned()], vec!["longer".to_owned(), "#23".to_owned()]];
        assert_eq!(table(&["KEY", "PULL"], rows), "KEY     PULL\na       #1\nlonger  #23\n");
        assert_eq!(table(&["KEY"], Vec::new()), "KEY\n");
    }

    #[test]
    fn keys_are_quoted_only_where_a_shell_needs_it() {
        for (given, shown) in [
            ("acme/infra/./default/", "acme/infra/./default/"),
            ("acme/infra/a b/default/", "'acme/infra/a b/default/'"),
            ("it's/$HOME", r"'it'\''s/$HOME'"),
            ("a\u{1b}[2J", r"'a\u{1b}[2J'"),
            ("", "''"),
        ] {
            assert_eq!(key(given), shown);
        }
    }
}
