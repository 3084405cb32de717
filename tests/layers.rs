//! Who knows whom: the files of `src` form no circle, nor do its folders, and lower layers do not know the upper ones.
//!
//! An arrow goes from a file to each file that it names in a path: in a `use`, or inline. Tests count for nothing, nor do visibilities
//! such as `pub(in crate::store)`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// Who must not know whom, beside all circles: folders and files without `src/` and `.rs`.
const FORBIDDEN: &[(&str, &[&str])] = &[
    ("store", &["capi", "cli", "service", "socket", "hybrid", "mode", "migrate"]),
    ("hybrid", &["store/sled", "store/redis", "store/host", "mode", "migrate", "capi", "cli", "service"]),
    ("migrate", &["mode", "capi", "cli", "service", "socket"]),
    (
        "queue",
        &[
            "audit",
            "call",
            "capi",
            "cli",
            "clock",
            "config",
            "health",
            "hybrid",
            "mode",
            "operation",
            "process",
            "service",
            "store",
        ],
    ),
    ("health", &["hybrid", "mode", "service", "store"]),
    ("shadow", &["capi", "cli", "service", "socket", "hybrid", "migrate", "doctor"]),
    ("doctor", &["capi", "cli", "hybrid", "mode"]),
];

/// All that `src/domain` may know beside itself.
const DOMAIN_KNOWS: &str = "error";

/// The modules of a tree, and which paths lead from one to another. The crate's root is `lib`.
#[derive(Debug, Default)]
struct Graph(BTreeMap<String, BTreeMap<String, BTreeSet<String>>>);

impl Graph {
    /// Of these files: name (`store/mod.rs`) and text.
    fn of(files: &BTreeMap<String, String>) -> Graph {
        let mut modules: BTreeMap<String, Vec<Token>> =
            files.iter().map(|(file, text)| (module_of(file), without_visibilities(tokens(text)))).collect();
        let tests: Vec<String> = modules.iter_mut().flat_map(|(module, tokens)| take_tests(module, tokens)).collect();
        let is_test = |module: &str| tests.iter().any(|test| module == test || module.starts_with(&format!("{test}/")));
        modules.retain(|module, _| !is_test(module));
        let names: BTreeSet<String> = modules.keys().cloned().collect();
        let mut graph = Graph::default();
        for (module, tokens) in &modules {
            let arrows = graph.0.entry(module.clone()).or_default();
            for (base, path) in paths(module, tokens) {
                if let Some(known) = resolve(&names, &base, &path).filter(|known| known != module) {
                    arrows.entry(known).or_default().insert(path.join("::"));
                }
            }
        }
        graph
    }

    fn of_the_sources() -> Graph {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut files = BTreeMap::new();
        let mut folders = vec![root.clone()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if path.extension().is_some_and(|extension| extension == "rs") {
                    let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
                    files.insert(name, fs::read_to_string(&path).unwrap());
                }
            }
        }
        Graph::of(&files)
    }

    fn arrows(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|(from, arrows)| arrows.keys().map(move |to| (from.as_str(), to.as_str())))
    }

    /// The same of the folders and files right below `src`.
    fn of_rooms(&self) -> Graph {
        let room = |module: &str| module.split('/').next().unwrap_or_default().to_owned();
        let mut rooms = Graph::default();
        for (from, arrows) in &self.0 {
            let known = rooms.0.entry(room(from)).or_default();
            for (to, paths) in arrows.iter().filter(|(to, _)| room(to) != room(from)) {
                known.entry(room(to)).or_default().extend(paths.iter().map(|path| format!("{path} in {from}")));
            }
        }
        rooms
    }

    /// A shortest circle of files, and by which paths it is closed.
    fn circle(&self) -> Option<String> {
        let circles = self.0.keys().filter_map(|start| self.way_back_to(start));
        let shortest = circles.min_by_key(Vec::len)?;
        let arrow = |pair: &[&str]| {
            let by: Vec<_> = self.0[pair[0]][pair[1]].iter().map(String::as_str).collect();
            format!("{} knows {} by {}", pair[0], pair[1], by.join(", "))
        };
        Some(shortest.windows(2).map(arrow).collect::<Vec<_>>().join("\n"))
    }

    /// The shortest way from a file to itself, both ends included.
    fn way_back_to<'a>(&'a self, start: &'a str) -> Option<Vec<&'a str>> {
        let mut came_from: BTreeMap<&str, &str> = BTreeMap::new();
        let mut wave = vec![start];
        while !wave.is_empty() {
            let mut next = Vec::new();
            for from in wave {
                for to in self.0[from].keys() {
                    if to == start {
                        let mut way = vec![start, from];
                        while *way.last()? != start {
                            way.push(came_from[way.last()?]);
                        }
                        way.reverse();
                        return Some(way);
                    }
                    if !came_from.contains_key(to.as_str()) {
                        came_from.insert(to, from);
                        next.push(to.as_str());
                    }
                }
            }
            wave = next;
        }
        None
    }

    /// The arrows that lead up, with their paths.
    fn forbidden(&self) -> Vec<String> {
        let is_up = |from: &str, to: &str| {
            let by_list = FORBIDDEN.iter().any(|(of, not)| is_in(from, of) && not.iter().any(|not| is_in(to, not)));
            by_list || (is_in(from, "domain") && !is_in(to, "domain") && to != DOMAIN_KNOWS)
        };
        let up = self.arrows().filter(|(from, to)| is_up(from, to));
        up.map(|(from, to)| format!("{from} must not know {to}: {:?}", self.0[from][to])).collect()
    }
}

fn is_in(module: &str, folder: &str) -> bool {
    module.strip_prefix(folder).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// `store/mod.rs` and `store.rs` are `store`.
fn module_of(file: &str) -> String {
    let name = file.strip_suffix(".rs").unwrap();
    name.strip_suffix("/mod").unwrap_or(name).to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Name(String),
    /// `::`
    Of,
    Sign(char),
}

/// The tokens of a Rust text that matter here: no comments, no literals.
fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            length
        } else if first.is_alphanumeric() || first == '_' {
            let length = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            tokens.push(Token::Name(rest[..length].to_owned()));
            length
        } else if rest.starts_with("::") {
            tokens.push(Token::Of);
            2
        } else {
            if !first.is_whitespace() {
                tokens.push(Token::Sign(first));
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    tokens
}

/// The length of the text or character that begins here, if one does.
fn literal(rest: &str) -> Option<usize> {
    let raw = rest.strip_prefix('b').unwrap_or(rest);
    if let Some(raw) = raw.strip_prefix('r') {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            let end = format!("\"{}", "#".repeat(hashes));
            let start = rest.len() - raw.len() + hashes + 1;
            return Some(rest[start..].find(&end).map_or(rest.len(), |at| start + at + end.len()));
        }
    }
    let quote = rest.strip_prefix(['b', 'c']).filter(|after| after.starts_with(['"', '\''])).unwrap_or(rest);
    let start = rest.len() - quote.len();
    let mut chars = quote.char_indices();
    let (_, mark) = chars.next()?;
    match mark {
        '"' => {}
        // A lifetime is a name behind a sign.
        '\'' if quote[1..].starts_with('\\') || quote[1..].chars().nth(1) == Some('\'') => {}
        _ => return None,
    }
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == mark {
            return Some(start + at + 1);
        }
    }
    Some(rest.len())
}

fn name(token: Option<&Token>) -> Option<&str> {
    match token? {
        Token::Name(name) => Some(name),
        _ => None,
    }
}

fn is_sign(token: Option<&Token>, sign: char) -> bool {
    token == Some(&Token::Sign(sign))
}

/// Leaves out each `(in …)` of a `pub`.
fn without_visibilities(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        kept.push(tokens[at].clone());
        let opens = name(tokens.get(at)) == Some("pub") && is_sign(tokens.get(at + 1), '(');
        at += 1;
        if opens {
            at += 1 + tokens[at..].iter().position(|token| *token == Token::Sign(')')).expect("the visibility ends");
        }
    }
    kept
}

/// Takes out each item under `#[cfg(test)]`, or under that of what is fuzzed, too; the modules of them that are files.
fn take_tests(module: &str, tokens: &mut Vec<Token>) -> Vec<String> {
    let of_tests = ["#[cfg(test)]", "#[cfg(any(test, fuzzing))]"].map(self::tokens);
    let first = |tokens: &[Token]| {
        let found =
            |marks: &Vec<Token>| Some((tokens.windows(marks.len()).position(|window| window == marks.as_slice())?, marks.len()));
        of_tests.iter().filter_map(found).min()
    };
    let mut files = Vec::new();
    while let Some((at, length)) = first(tokens) {
        let item = at + length;
        let mut end = item;
        let mut depth = 0;
        while let Some(token) = tokens.get(end) {
            end += 1;
            match token {
                Token::Sign('{' | '[' | '(') => depth += 1,
                Token::Sign('}') if depth == 1 => break,
                Token::Sign('}' | ']' | ')') => depth -= 1,
                Token::Sign(';') if depth == 0 => break,
                _ => {}
            }
        }
        let words: Vec<_> =
            tokens[item..end].iter().filter_map(|token| name(Some(token))).filter(|word| *word != "pub").collect();
        if let (["mod", name], true) = (&words[..], is_sign(tokens.get(end - 1), ';')) {
            files.push(inside(module, name));
        }
        tokens.drain(at..end);
    }
    files
}

fn inside(module: &str, name: &str) -> String {
    if module == "lib" { name.to_owned() } else { format!("{module}/{name}") }
}

/// The paths of two names or more in a file, each with the module that it stands in.
fn paths(module: &str, tokens: &[Token]) -> Vec<(String, Vec<String>)> {
    let mut found = Vec::new();
    let mut bases = vec![module.to_owned()];
    // One for each open brace: whether it is a module's.
    let mut braces = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let base = bases.last().expect("the file itself").clone();
        match &tokens[at] {
            Token::Name(word) if word == "use" => {
                let end = at + tokens[at..].iter().position(|token| *token == Token::Sign(';')).unwrap_or(tokens.len() - at);
                let mut rest = &tokens[at + 1..end];
                used(&mut rest, &[], &mut |path| found.push((base.clone(), path)));
                at = end;
            }
            Token::Name(word) if word == "mod" && is_sign(tokens.get(at + 2), '{') => {
                bases.push(inside(&base, name(tokens.get(at + 1)).expect("a module has a name")));
                braces.push(true);
                at += 3;
            }
            Token::Name(first) if at == 0 || tokens[at - 1] != Token::Of => {
                let mut path = vec![first.clone()];
                while let (Some(Token::Of), Some(next)) = (tokens.get(at + 1), name(tokens.get(at + 2))) {
                    path.push(next.to_owned());
                    at += 2;
                }
                if path.len() > 1 {
                    found.push((base, path));
                }
                at += 1;
            }
            Token::Sign('{') => {
                braces.push(false);
                at += 1;
            }
            Token::Sign('}') => {
                if braces.pop() == Some(true) {
                    bases.pop();
                }
                at += 1;
            }
            _ => at += 1,
        }
    }
    found
}

/// The paths of one tree of a `use`.
fn used(rest: &mut &[Token], before: &[String], found: &mut impl FnMut(Vec<String>)) {
    let mut path = before.to_vec();
    while let Some((token, after)) = rest.split_first() {
        match token {
            Token::Sign('{') => {
                *rest = after;
                while !rest.is_empty() && !is_sign(rest.first(), '}') {
                    used(rest, &path, found);
                    if is_sign(rest.first(), ',') {
                        *rest = &rest[1..];
                    }
                }
                *rest = rest.get(1..).unwrap_or_default();
                return;
            }
            Token::Sign(',' | '}') => break,
            Token::Name(word) if word == "as" => *rest = &after[1..],
            Token::Name(word) => {
                path.push(word.clone());
                *rest = after;
            }
            Token::Of | Token::Sign(_) => *rest = after,
        }
    }
    found(path);
}

/// The file that a path of the module `base` leads into: its longest beginning that is a module.
fn resolve(names: &BTreeSet<String>, base: &str, path: &[String]) -> Option<String> {
    let mut at: Vec<&str> = if base == "lib" { Vec::new() } else { base.split('/').collect() };
    let mut rest = path.iter().map(String::as_str).peekable();
    match *rest.peek()? {
        // A program of this package calls the library by its name.
        "crate" | "atlock" => {
            at.clear();
            rest.next();
        }
        "self" => drop(rest.next()),
        "super" => {
            while rest.next_if_eq(&"super").is_some() {
                at.pop();
            }
        }
        // A module of this one's, or of another crate.
        first if names.contains(&inside(base, first)) => {}
        _ => return None,
    }
    at.extend(rest);
    let longest = (1..=at.len()).rev().map(|length| at[..length].join("/")).find(|module| names.contains(module));
    longest.or_else(|| names.contains("lib").then(|| "lib".to_owned()))
}

#[test]
fn no_circle_and_no_arrow_up() {
    let graph = Graph::of_the_sources();
    assert!(graph.arrows().count() > 200, "only {} arrows were found", graph.arrows().count());
    let up = graph.forbidden();
    assert!(up.is_empty(), "{}", up.join("\n"));
    for (what, graph) in [("files", &graph), ("folders", &graph.of_rooms())] {
        if let Some(circle) = graph.circle() {
            panic!("a circle of {what}; what both need belongs below them:\n{circle}");
        }
    }
}

fn tree(files: &[(&str, &str)]) -> Graph {
    let modules = |(file, text): &(&str, &str)| (file.to_string(), text.to_string());
    Graph::of(&files.iter().map(modules).collect())
}

#[test]
fn a_planted_circle_is_seen_however_it_is_written() {
    let lib = ("lib.rs", "pub mod a; pub mod b;");
    for b in [
        "use crate::a::Thing;",
        "use crate::{error::Error, a::{Thing, Other as Third}};",
        "use super::a::*;",
        "fn f(thing: &crate::a::Thing) {}",
        "impl super::a::Thing { }",
        "mod inner { fn f() { super::super::a::f() } }",
        "macro_rules! m { () => { $crate::a::f() } }",
        "const URL: &str = \"https://x\"; /* \" */ const C: char = '\"'; use crate::a;",
        "const R: &str = r#\"a \" b\"#; fn f<'a>(x: &'a u8) { crate::a::f(x) }",
    ] {
        let graph = tree(&[lib, ("a/mod.rs", "use crate::b; pub struct Thing;"), ("b.rs", b), ("error.rs", "")]);
        let circle = graph.circle().unwrap_or_else(|| panic!("not seen: {b}"));
        assert!(circle.contains("a knows b by crate::b\nb knows a by "), "{circle}");
    }
    let rooms = tree(&[lib, ("a/x.rs", "use crate::b;"), ("a/y.rs", ""), ("b.rs", "use crate::a::y;")]);
    assert_eq!(rooms.circle(), None);
    assert!(rooms.of_rooms().circle().expect("is seen").contains("b knows a by crate::a::y in b"));
    let long = tree(&[lib, ("a.rs", "use crate::b::f;"), ("b.rs", "use crate::c::d::f;"), ("c/d.rs", "use super::super::a;")]);
    assert_eq!(long.circle().expect("is seen").lines().count(), 3);
    let child = tree(&[("lib.rs", ""), ("a/mod.rs", "mod b; pub fn f() { b::f() }"), ("a/b.rs", "use super::f;")]);
    assert!(child.circle().expect("is seen").contains("a/b knows a by super::f"));
}

#[test]
fn what_is_no_arrow_closes_no_circle() {
    for b in [
        "// use crate::a;\n/// [`crate::a`]\n/* crate::a */",
        "const A: &str = \"use crate::a;\"; const B: &str = r#\"crate::a\"#;",
        "pub(in crate::a) fn f() {} pub(crate) fn g() {}",
        "#[cfg(test)]\nmod tests { use crate::a; fn f() { let [b] = [0; 1]; } }",
        "#[cfg(test)] use crate::a::{self, f};",
        "use b::a; use std::a; fn f() { other::crate_::a() }",
    ] {
        let graph = tree(&[("lib.rs", ""), ("a.rs", "use crate::b;"), ("b.rs", b)]);
        assert_eq!(graph.circle(), None, "{b}");
        assert_eq!(graph.arrows().count(), 1, "{b}");
    }
    let tests = [
        ("lib.rs", ""),
        ("a.rs", "#[cfg(test)]\nmod tests;\n"),
        ("a/tests.rs", "use crate::b;"),
        ("a/tests/c.rs", "use crate::b;"),
    ];
    assert_eq!(tree(&[&tests[..], &[("b.rs", "use crate::a;")]].concat()).circle(), None);
}

#[test]
fn an_arrow_up_is_seen() {
    let files = [
        ("store/sled/mod.rs", "use crate::capi::buffer::Buffer;"),
        ("capi/buffer.rs", ""),
        ("domain/key.rs", "use crate::error::Error; use super::lock; use crate::store;"),
        ("domain/lock.rs", ""),
        ("store/mod.rs", "fn f() { crate::hybrid::f() }"),
        ("hybrid/mod.rs", ""),
        ("hybrid/opening.rs", "use crate::store::sled::SledStore; use crate::store::Store;"),
        ("error.rs", ""),
    ];
    let up = tree(&files).forbidden();
    for wanted in [
        "domain/key must not know store",
        "hybrid/opening must not know store/sled",
        "store must not know hybrid",
        "store/sled must not know capi/buffer",
    ] {
        assert!(up.iter().any(|found| found.starts_with(&format!("{wanted}:"))), "{wanted}: {up:?}");
    }
    assert_eq!(up.len(), 4, "{up:?}");
}
