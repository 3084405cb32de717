//! `atlock top`: a live view of a running server.
//!
//! Invariant: it looks, and changes nothing. A server that hangs keeps no key from working: one thread asks, and another draws.

use std::io::{self, IsTerminal as _};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use atlock::error::{Code, Error, Result};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};

use super::open::Source;
use super::top_state::{App, Look};
use super::top_view::draw;

/// How soon a key that was pressed is looked at.
const SOON: Duration = Duration::from_millis(100);

/// Shows the server that `open` finds, looking again after each `period`, until a key says so.
///
/// Errors: `InvalidArgument` without a terminal; those of the first look.
pub fn top(period: Duration, open: impl Fn() -> Result<Source> + Send + 'static) -> Result<()> {
    if !io::stdin().is_terminal() || !io::stdout().is_terminal() {
        let text = "top needs a terminal; for a pipe there are `status`, `list` and `queue`, with --watch";
        return Err(Error::new(Code::InvalidArgument, text));
    }
    let first = look(&open);
    let (told, hears) = channel();
    let (stop, stopped) = channel();
    let first = told.send(Ok(first?)).map(|()| told).map_err(|_| failed("the terminal", &"nobody hears"))?;
    thread::Builder::new()
        .name("atlock-top".to_owned())
        .spawn(move || ask(&open, period, &first, &stopped))
        .map_err(|e| failed("a thread", &e))?;
    let mut terminal = ratatui::try_init().map_err(|e| failed("the terminal", &e))?;
    let shown = show(&mut terminal, &hears);
    // What was shown goes away, also after an error.
    let restored = ratatui::try_restore();
    // The thread ends by itself: one that waits for an answer is not waited for.
    drop(stop);
    shown.and(restored).map_err(|e| failed("the terminal", &e))
}

fn failed(what: &str, why: &dyn std::fmt::Display) -> Error {
    Error::new(Code::Internal, format!("{what} cannot be used: {why}"))
}

/// One look. A server that was started anew has a new socket.
fn look(open: &impl Fn() -> Result<Source>) -> Result<Look> {
    let mut source = open()?;
    Look::take(|operation, input| source.ask(operation, input))
}

/// Asks until nobody hears, or `stopped` says so.
fn ask(open: &impl Fn() -> Result<Source>, period: Duration, told: &Sender<Result<Look>>, stopped: &Receiver<()>) {
    while stopped.recv_timeout(period) == Err(RecvTimeoutError::Timeout) && told.send(look(open)).is_ok() {}
}

fn show(terminal: &mut DefaultTerminal, hears: &Receiver<Result<Look>>) -> io::Result<()> {
    let mut app = App::new();
    loop {
        hears.try_iter().for_each(|look| app.heard(look));
        terminal.draw(|frame| draw(&app, frame))?;
        if event::poll(SOON)?
            && let Event::Key(key) = event::read()?
            && key.kind == KeyEventKind::Press
            && !app.press(key)
        {
            return Ok(());
        }
    }
}
