//! How `atlock top` looks.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table};

use atlock::queue::freeze::plain;

use super::show::{list_of, took, word};
use super::top_state::{App, Look, Tab};

/// Draws all of it.
pub fn draw(app: &App, frame: &mut Frame<'_>) {
    let head = head(app);
    let height = u16::try_from(head.len()).unwrap_or(u16::MAX);
    let [above, tabs, rows, below] =
        Layout::vertical([Constraint::Length(height), Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)])
            .areas(frame.area());
    frame.render_widget(Paragraph::new(head.into_iter().map(Line::from).collect::<Vec<_>>()), above);
    let title = |tab, name: &str| {
        let (text, count) = (if app.tab == tab { "[" } else { " " }, app.rows(tab).len());
        format!("{text}{name} {count}{}", if app.tab == tab { "]" } else { " " })
    };
    let titles = format!("{}  {}", title(Tab::Locks, "locks"), title(Tab::Queue, "queue"));
    frame.render_widget(Paragraph::new(titles).style(Style::new().add_modifier(Modifier::BOLD)), tabs);
    table(app, frame, rows);
    let keys = if app.is_typing || !app.filter.is_empty() {
        format!("/{}{}   Enter keeps the filter, Esc ends it", plain(&app.filter), if app.is_typing { "_" } else { "" })
    } else {
        "q ends   Tab locks or queue   arrows and pages scroll   / filters".to_owned()
    };
    frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), below);
}

fn table(app: &App, frame: &mut Frame<'_>, area: Rect) {
    if let (Tab::Queue, Some(Look { queue: Err(why), .. })) = (app.tab, &app.look) {
        return frame.render_widget(Paragraph::new(why.as_str()), area);
    }
    let (headers, widths): (&[&str], &[Constraint]) = match app.tab {
        Tab::Locks => (
            &["KEY", "PULL", "USER", "SINCE"],
            &[Constraint::Fill(3), Constraint::Length(8), Constraint::Fill(1), Constraint::Length(25)],
        ),
        Tab::Queue => (
            &["KEY", "PLACE", "PULL", "USER", "SINCE"],
            &[Constraint::Fill(3), Constraint::Length(5), Constraint::Length(8), Constraint::Fill(1), Constraint::Length(25)],
        ),
    };
    let found = app.rows(app.tab);
    let shown = found.iter().skip(app.offset).take(usize::from(area.height));
    let rows = shown.map(|cells| Row::new(cells.iter().map(String::as_str)));
    let header = Row::new(headers.iter().copied()).style(Style::new().add_modifier(Modifier::UNDERLINED));
    frame.render_widget(Table::new(rows, widths).header(header).column_spacing(2), area);
}

/// The lines about the server.
fn head(app: &App) -> Vec<String> {
    let mut lines = Vec::new();
    match &app.look {
        Some(look) => lines.extend(server(look)),
        None if app.error.is_none() => lines.push("asking the server …".to_owned()),
        None => {}
    }
    if let (Some(rates), true) = (&app.rates, app.look.is_some()) {
        lines.push(format!(
            "rates     {:.1}/s by Redis, {:.1}/s by the local store, {:.1}/s in Redis's place, {:.1} errors/s",
            rates.redis, rates.local, rates.fallback, rates.errors
        ));
    }
    lines.extend(app.error.iter().map(|error| format!("no answer {error}; what is below is from before")));
    lines
}

fn server(look: &Look) -> Vec<String> {
    let (status, health) = (&look.status, &look.health);
    let mut lines = vec![format!("state     {}: {}", plain(word(&health["state"])), plain(word(&health["headline"])))];
    let store = |name: &str, store: &serde_json::Value| match (store.is_object(), store["error"].as_str()) {
        (false, _) => None,
        (true, Some(error)) => Some(format!("{name} does not work: {}", plain(error))),
        (true, None) if store["healthy"] == false => Some(format!("{name} does not work")),
        (true, None) => Some(format!("{name} {}", plain(&took(store)))),
    };
    let stores: Vec<String> =
        [store("Redis", &health["enhanced"]), store("local", &health["legacy"])].into_iter().flatten().collect();
    lines.push(format!("stores    {}; mode {}", stores.join(", "), plain(word(&status["mode"]))));
    if status["mode"] == "hybrid" {
        let armed = if status["armed"] == true { "armed" } else { "not armed" };
        let (unsynced, conflicts) = (status["journal_length"].as_u64().unwrap_or_default(), list_of(&status["conflicts"]).len());
        let breaker = plain(word(&status["circuit_state"]));
        lines.push(format!("breaker   {breaker}; {armed}; unsynced {unsynced}, conflicts {conflicts}"));
    }
    lines.extend(list_of(&status["warnings"]).iter().take(3).map(|warning| format!("warning   {}", plain(word(warning)))));
    lines
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use atlock::error::{Code, Error, Result};
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
    use serde_json::json;

    use super::*;

    /// What a server answers; `ops` it has made.
    fn answer(operation: &str, ops: u64, locks: usize) -> Result<Vec<u8>> {
        let lock = |num: usize| {
            let user = if num == 1 { "ada\u{1b}[2J\nforged" } else { "grace" };
            json!({ "Project": { "RepoFullName": "acme/infra", "Path": format!("p{num}"), "ProjectName": "" }, "Pull": { "Num": num },
                "User": { "Username": user }, "Workspace": "default", "Time": "2026-11-30T10:00:00Z" })
        };
        let told = match operation {
            "health" => json!({ "state": "degraded", "headline": "the local store decides\u{7}",
                "enhanced": { "error": "refused" }, "legacy": { "response_time_ms": 0.2 } }),
            "status" => json!({ "mode": "hybrid", "circuit_state": "open", "armed": true, "journal_length": 3,
                "conflicts": [{}], "warnings": ["the disk is full"], "enhanced_ops": 0, "legacy_ops": 0, "fallback_ops": ops, "errors": 0 }),
            "list" => json!({ "locks": (1..=locks).map(lock).collect::<Vec<_>>() }),
            _ => {
                json!({ "acme/infra": [{ "pull": { "num": 9 }, "user": "ann", "since": 0, "keys": { "acme/infra/p1/default/": { "position": 1 } } }] })
            }
        };
        Ok(told.to_string().into_bytes())
    }

    fn look(ops: u64, locks: usize) -> Look {
        Look::take(|operation, _| answer(operation, ops, locks)).expect("is read")
    }

    fn screen(app: &App) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(90, 12)).expect("is made");
        terminal.draw(|frame| draw(app, frame)).expect("is drawn");
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..90).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        (0..12).map(line).collect()
    }

    fn press(app: &mut App, keys: &[KeyCode]) -> bool {
        keys.iter().all(|key| app.press(KeyEvent::new(*key, KeyModifiers::NONE)))
    }

    #[test]
    fn all_is_shown_and_nothing_moves_the_cursor() {
        let mut app = App::new();
        assert_eq!(screen(&app)[0], "asking the server …");
        let before = Look { at: Instant::now() - Duration::from_secs(10), ..look(5, 2) };
        app.heard(Ok(before));
        app.heard(Ok(look(25, 2)));
        let shown = screen(&app);
        assert_eq!(shown[0], r"state     degraded: the local store decides\u{7}");
        assert_eq!(shown[1], "stores    Redis does not work: refused, local 0.20 ms; mode hybrid");
        assert_eq!(shown[2], "breaker   open; armed; unsynced 3, conflicts 1");
        assert_eq!(shown[3], "warning   the disk is full");
        assert_eq!(shown[4], "rates     0.0/s by Redis, 0.0/s by the local store, 2.0/s in Redis's place, 0.0 errors/s");
        assert_eq!(shown[5], "[locks 2]   queue 1");
        assert!(shown[7].starts_with("acme/infra/p1/default/") && shown[7].contains(r"#1        ada\u{1b}["), "{shown:#?}");
        assert!(shown.iter().all(|line| !line.starts_with("forged")), "{shown:#?}");
        assert!(press(&mut app, &[KeyCode::Tab]));
        assert!(screen(&app)[7].contains("1      #9        ann"), "{:#?}", screen(&app));
    }

    #[test]
    fn a_filter_and_the_arrows_choose_the_rows() {
        let mut app = App::new();
        app.heard(Ok(look(0, 30)));
        assert!(press(&mut app, &[KeyCode::Down, KeyCode::Down, KeyCode::PageDown]));
        assert!(screen(&app)[6].starts_with("acme/infra/p13/"), "{:#?}", screen(&app));
        assert!(press(&mut app, &[KeyCode::PageDown, KeyCode::PageDown, KeyCode::PageDown]));
        assert!(screen(&app)[6].starts_with("acme/infra/p30/"), "the last one stays: {:#?}", screen(&app));
        // In a filter, `q` is a letter.
        assert!(press(&mut app, &[KeyCode::Char('/'), KeyCode::Char('P'), KeyCode::Char('3'), KeyCode::Char('q')]));
        assert_eq!(app.rows(Tab::Locks).len(), 0);
        assert!(press(&mut app, &[KeyCode::Backspace, KeyCode::Enter]));
        assert_eq!(screen(&app)[4], "[locks 2]   queue 0");
        assert!(screen(&app)[11].starts_with("/P3 "), "{:#?}", screen(&app));
        app.heard(Ok(look(0, 3)));
        assert_eq!((app.rows(Tab::Locks).len(), app.offset), (1, 0));
        assert!(press(&mut app, &[KeyCode::Esc]));
        assert_eq!(app.rows(Tab::Locks).len(), 3);
        assert!(!press(&mut app, &[KeyCode::Char('q')]));
        assert!(!app.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)));
    }

    #[test]
    fn a_server_that_is_away_or_new_is_told() {
        let mut app = App::new();
        app.heard(Ok(look(50, 2)));
        app.heard(Err(Error::new(Code::Unreachable, "it is\u{1b} away")));
        let shown = screen(&app);
        assert!(
            shown.iter().any(|line| line.starts_with(r"no answer it is\u{1b} away; what is below is from before")),
            "{shown:#?}"
        );
        assert!(shown.iter().any(|line| line.starts_with("acme/infra/p1/")), "{shown:#?}");
        app.heard(Ok(look(1, 2)));
        assert!(
            screen(&app).iter().all(|line| !line.starts_with("rates") && !line.starts_with("no answer")),
            "its counters began anew"
        );
        app.heard(Look::take(|operation, _| match operation {
            "queues" => Err(Error::new(Code::QueueDisabled, "there is no queue")),
            other => answer(other, 2, 1),
        }));
        assert!(press(&mut app, &[KeyCode::Right]));
        assert!(screen(&app).iter().any(|line| line == "there is no queue"), "{:#?}", screen(&app));
    }
}
