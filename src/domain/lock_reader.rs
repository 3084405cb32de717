//! The one definition of a valid lock: what its members are.
//!
//! Invariant: a value is a lock here only if the Go struct `models.ProjectLock` (Atlantis v0.47.1) takes the value with `encoding/json`,
//! if Go can write again what it has read, and if every reader of the value reads the same. So:
//! - What names the lock and its pull is there, once and of its type: `Project.RepoFullName`, `Project.Path`, `Workspace`, `Pull.Num`;
//!   `Project.ProjectName` may be absent, as before Atlantis v0.28.
//! - Every other member that the struct has may be absent or null, and has the struct's type otherwise.
//! - A whole number has neither fraction nor exponent, and fits Go's `int`; a pull's number is below 2^53, because Lua's numbers are floats.
//! - A time is RFC 3339. Go reads some texts more (`1:02`, a comma, a zone of +24:00) and may stop; the last it cannot write again.
//! - No name occurs twice, and none differs from a known one in case alone: Go takes the last of all those, others the first, or one spelling.
//! - Members that the struct does not have may hold any JSON: they are of later versions.
//!
//! The second implementation is `go/internal/bolthost/lock.go`; both go through `tests/locks.jsonl`.

use std::borrow::Cow;

use super::scan::{Scan, Scanner};

/// A member of an object in a lock.
struct Member {
    name: &'static str,
    shape: Shape,
}

/// What Go's type of a member takes.
enum Shape {
    /// A string that names the lock: never null.
    Name(Slot),
    /// The pull's number: never null.
    PullNum,
    /// `string`.
    Text,
    /// `string`: the host of the pull.
    Host,
    /// `string`: the user who took the lock.
    User,
    /// `int`.
    Whole,
    /// `bool`.
    Flag,
    /// `[]string`.
    Texts,
    /// `time.Time`.
    Moment,
    /// A struct.
    Object(&'static [Member]),
    /// A list of structs.
    Objects(&'static [Member]),
}

/// Which of the lock's names.
#[derive(Clone, Copy)]
enum Slot {
    Repo,
    Path,
    Workspace,
    Project,
}

const fn member(name: &'static str, shape: Shape) -> Member {
    Member { name, shape }
}

// In the order in which Go writes them: the next one is looked for first.
static LOCK: [Member; 5] = [
    member("Project", Shape::Object(&PROJECT)),
    member("Pull", Shape::Object(&PULL)),
    member("User", Shape::Object(&USER)),
    member("Workspace", Shape::Name(Slot::Workspace)),
    member("Time", Shape::Moment),
];
static PROJECT: [Member; 3] = [
    member("ProjectName", Shape::Name(Slot::Project)),
    member("RepoFullName", Shape::Name(Slot::Repo)),
    member("Path", Shape::Name(Slot::Path)),
];
static PULL: [Member; 10] = [
    member("Num", Shape::PullNum),
    member("HeadCommit", Shape::Text),
    member("URL", Shape::Text),
    member("HeadBranch", Shape::Text),
    member("BaseBranch", Shape::Text),
    member("HardenedNonPRRefCheckout", Shape::Flag),
    member("Author", Shape::Text),
    member("Body", Shape::Text),
    member("State", Shape::Whole),
    member("BaseRepo", Shape::Object(&REPO)),
];
static REPO: [Member; 6] = [
    member("FullName", Shape::Text),
    member("Owner", Shape::Text),
    member("Name", Shape::Text),
    member("CloneURL", Shape::Text),
    member("SanitizedCloneURL", Shape::Text),
    member("VCSHost", Shape::Object(&HOST)),
];
static HOST: [Member; 2] = [member("Hostname", Shape::Host), member("Type", Shape::Whole)];
static USER: [Member; 2] = [member("Username", Shape::User), member("Teams", Shape::Texts)];

/// `command.Lock`.
static COMMAND_LOCK: [Member; 2] = [member("LockMetadata", Shape::Object(&LOCK_METADATA)), member("CommandName", Shape::Whole)];
static LOCK_METADATA: [Member; 1] = [member("UnixTime", Shape::Whole)];

/// `models.PullStatus`. What a policy set has beside these differs between releases of Atlantis.
static PULL_STATUS: [Member; 2] = [member("Projects", Shape::Objects(&PROJECT_STATUS)), member("Pull", Shape::Object(&PULL))];
static PROJECT_STATUS: [Member; 5] = [
    member("Workspace", Shape::Text),
    member("RepoRelDir", Shape::Text),
    member("ProjectName", Shape::Text),
    member("PolicyStatus", Shape::Objects(&POLICY_SET_STATUS)),
    member("Status", Shape::Whole),
];
static POLICY_SET_STATUS: [Member; 2] = [member("PolicySetName", Shape::Text), member("Passed", Shape::Flag)];

/// What the core keeps of a lock.
#[derive(Debug, Default)]
pub(super) struct Read<'a> {
    pub(super) repo: Option<Cow<'a, str>>,
    pub(super) path: Option<Cow<'a, str>>,
    pub(super) workspace: Option<Cow<'a, str>>,
    pub(super) project: Option<Cow<'a, str>>,
    pub(super) pull_num: Option<i64>,
    pub(super) host: Option<Cow<'a, str>>,
    pub(super) user: Option<Cow<'a, str>>,
}

/// Reads a whole text as a lock. Whether its names are there is left to the caller.
pub(super) fn read(json: &[u8]) -> Scan<Read<'_>> {
    read_as(json, &LOCK)
}

/// Looks whether Go takes a whole text as a `command.Lock`.
pub(super) fn check_command_lock(json: &[u8]) -> Scan<()> {
    read_as(json, &COMMAND_LOCK).map(drop)
}

/// Looks whether Go takes a whole text as a `models.PullStatus`.
pub(super) fn check_pull_status(json: &[u8]) -> Scan<()> {
    read_as(json, &PULL_STATUS).map(drop)
}

fn read_as<'a>(json: &'a [u8], model: &'static [Member]) -> Scan<Read<'a>> {
    let mut scanner = Scanner::new(json)?;
    let mut read = Read::default();
    if scanner.peek() != Some(b'{') {
        return scanner.fault("there is no object", 0);
    }
    read.members(&mut scanner, model)?;
    scanner.end()?;
    Ok(read)
}

impl<'a> Read<'a> {
    /// Reads the members of an object that has these.
    fn members(&mut self, scanner: &mut Scanner<'a>, known: &'static [Member]) -> Scan<()> {
        let mut expected = 0;
        let mut seen = 0_u16;
        scanner.object(|scanner, name| {
            let position = match name.plain() {
                Some(plain) => position(known, expected, plain),
                None => position(known, expected, &name.meaning()),
            };
            let Some(nth) = position else {
                let name = name.meaning();
                if let Some(twin) = known.iter().find(|member| folds_to(&name, member.name)) {
                    return scanner.fault_of(twin.name, "is written in another case", 0);
                }
                return scanner.value();
            };
            let member = &known[nth];
            if seen & (1 << nth) != 0 {
                return scanner.fault_of(member.name, "is there twice", 0);
            }
            seen |= 1 << nth;
            expected = nth + 1;
            self.member(scanner, member)
        })
    }

    fn member(&mut self, scanner: &mut Scanner<'a>, member: &'static Member) -> Scan<()> {
        match (scanner.peek(), &member.shape) {
            (Some(b'"'), Shape::Name(slot)) => {
                *self.slot(*slot) = Some(scanner.text()?.meaning());
                Ok(())
            }
            (Some(b'-' | b'0'..=b'9'), Shape::PullNum) => {
                self.pull_num = Some(whole(scanner, member, (1 << 53) - 1)?);
                Ok(())
            }
            (Some(b'n'), shape) if !matches!(shape, Shape::Name(_) | Shape::PullNum) => scanner.word("null"),
            (Some(b'"'), Shape::Text) => scanner.text().map(drop),
            (Some(b'"'), Shape::Host) => {
                self.host = Some(scanner.text()?.meaning());
                Ok(())
            }
            (Some(b'"'), Shape::User) => {
                self.user = Some(scanner.text()?.meaning());
                Ok(())
            }
            (Some(b'-' | b'0'..=b'9'), Shape::Whole) => whole(scanner, member, i64::MAX).map(drop),
            (Some(b't'), Shape::Flag) => scanner.word("true"),
            (Some(b'f'), Shape::Flag) => scanner.word("false"),
            (Some(b'['), Shape::Texts) => scanner.array(|scanner| match scanner.peek() {
                Some(b'"') => scanner.text().map(drop),
                Some(b'n') => scanner.word("null"),
                _ => scanner.fault_of(member.name, "is not a list of texts", 0),
            }),
            (Some(b'"'), Shape::Moment) => moment(scanner, member),
            (Some(b'{'), Shape::Object(members)) => self.members(scanner, members).map_err(|fault| fault.below(member.name)),
            (Some(b'['), Shape::Objects(members)) => scanner.array(|scanner| match scanner.peek() {
                Some(b'{') => self.members(scanner, members).map_err(|fault| fault.below(member.name)),
                Some(b'n') => scanner.word("null"),
                _ => scanner.fault_of(member.name, "is not a list of objects", 0),
            }),
            (_, shape) => scanner.fault_of(member.name, shape.is_not(), 0),
        }
    }

    fn slot(&mut self, slot: Slot) -> &mut Option<Cow<'a, str>> {
        match slot {
            Slot::Repo => &mut self.repo,
            Slot::Path => &mut self.path,
            Slot::Workspace => &mut self.workspace,
            Slot::Project => &mut self.project,
        }
    }
}

impl Shape {
    fn is_not(&self) -> &'static str {
        match self {
            Shape::Name(_) | Shape::Text | Shape::Host | Shape::User => "is not a text",
            Shape::PullNum | Shape::Whole => "is not a whole number",
            Shape::Flag => "is not true or false",
            Shape::Texts => "is not a list of texts",
            Shape::Moment => "is not a time",
            Shape::Object(_) => "is not an object",
            Shape::Objects(_) => "is not a list of objects",
        }
    }
}

/// Where a name stands among those known.
fn position(known: &[Member], expected: usize, name: &str) -> Option<usize> {
    match known.get(expected) {
        Some(member) if member.name == name => Some(expected),
        _ => known.iter().position(|member| member.name == name),
    }
}

/// Whether Go's decoding takes a name for a known one. Two letters beside ASCII fold to letters in it.
fn folds_to(name: &str, known: &str) -> bool {
    let folded = |letter: char| match letter {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        letter => letter.to_ascii_lowercase(),
    };
    name.chars().map(folded).eq(known.chars().map(folded))
}

/// A whole number of at most `most`, in the one spelling that Go's decoding takes.
fn whole(scanner: &mut Scanner<'_>, member: &Member, most: i64) -> Scan<i64> {
    let digits = scanner.number()?;
    // -0 is a whole number for Go, and a text of its own for Lua.
    let number = if digits == "-0" { None } else { digits.parse::<i64>().ok() };
    match number {
        Some(number) if most == i64::MAX || number.unsigned_abs() <= most.unsigned_abs() => Ok(number),
        _ => scanner.fault_of(member.name, "is not a whole number, or too large", digits.len()),
    }
}

fn moment(scanner: &mut Scanner<'_>, member: &Member) -> Scan<()> {
    let text = scanner.text()?;
    // Go looks at the text as it is written, and so finds no time where there is an escape.
    if text.plain().is_some_and(is_moment) {
        return Ok(());
    }
    scanner.fault_of(member.name, "is not a time as RFC 3339 writes it", text.length())
}

/// Whether Go's `time.Time` takes a text, reads a time of RFC 3339 from it, and can write that again.
fn is_moment(text: &str) -> bool {
    let Some((date, rest)) = text.as_bytes().split_first_chunk::<19>() else { return false };
    let number = |from: usize, to: usize| digits(&date[from..to]);
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':')];
    if separators.iter().any(|(at, separator)| date[*at] != *separator) {
        return false;
    }
    let (Some(year), Some(month), Some(day)) = (number(0, 4), number(5, 7), number(8, 10)) else { return false };
    let time_of_day = [(11, 23), (14, 59), (17, 59)];
    if time_of_day.iter().any(|(at, most)| number(*at, at + 2).is_none_or(|number| number > *most)) {
        return false;
    }
    (1..=days(month, year)).contains(&day) && is_zone(behind_fraction(rest))
}

/// What stands behind the fraction of a second, if there is one.
fn behind_fraction(rest: &[u8]) -> &[u8] {
    match rest.strip_prefix(b".") {
        Some(fraction) if fraction.first().is_some_and(u8::is_ascii_digit) => {
            let digits = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
            &fraction[digits..]
        }
        _ => rest,
    }
}

fn is_zone(zone: &[u8]) -> bool {
    match zone {
        [b'Z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => {
            digits(&[*h1, *h2]).is_some_and(|hours| hours < 24) && digits(&[*m1, *m2]).is_some_and(|minutes| minutes < 60)
        }
        _ => false,
    }
}

fn digits(text: &[u8]) -> Option<u32> {
    text.iter().try_fold(0, |number, byte| byte.is_ascii_digit().then(|| 10 * number + u32::from(byte - b'0')))
}

/// How many days a month has; none if there is no such month.
fn days(month: u32, year: u32) -> u32 {
    match month {
        2 if year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400)) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fold_as_in_go() {
        for (name, known, folds) in [
            ("project", "Project", true),
            ("PROJECT", "Project", true),
            ("Work\u{17f}pace", "Workspace", true),
            ("Wor\u{212a}space", "Workspace", true),
            ("Work_space", "Workspace", false),
            ("Project ", "Project", false),
            ("Projec", "Project", false),
        ] {
            assert_eq!(folds_to(name, known), folds, "{name}");
        }
    }

    #[test]
    fn months_have_their_days() {
        for (month, year, last) in [
            (2, 2023, 28),
            (2, 2024, 29),
            (2, 1900, 28),
            (2, 2000, 29),
            (4, 2024, 30),
            (12, 2024, 31),
            (0, 2024, 0),
            (13, 2024, 0),
        ] {
            assert_eq!(days(month, year), last, "{year}-{month}");
        }
    }
}
