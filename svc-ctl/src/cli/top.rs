//! `svc-ctl top`: rates of Services, drops and programs, live.

mod draw;
mod read;
mod state;

use std::io::IsTerminal as _;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};

use self::draw::{NARROWEST, draw};
use self::read::Reader;
use self::state::State;
use super::args::{Sort, TopArgs};
use super::output::emit;

/// The shortest period. A reading costs a system call for each Service.
const SHORTEST: f64 = 0.2;
/// Lines of the frame of `--once`.
const LINES: u16 = 40;

pub fn main(args: &TopArgs) -> anyhow::Result<()> {
    ensure!(
        args.period.is_finite() && args.period >= SHORTEST,
        "--period {}: at least {SHORTEST} s",
        args.period
    );
    let period = Duration::from_secs_f64(args.period);
    let mut reader = Reader::new(&args.pins.pin_dir, &args.run_dir.run_dir)?;
    let mut state = State::new(args.sort, reader.read()?);
    if args.once {
        #[expect(clippy::disallowed_methods, reason = "the rates are those of this time")]
        std::thread::sleep(period);
        state.take(reader.read()?);
        return emit(&text(&state, args.columns, LINES)?);
    }
    ensure!(
        std::io::stdout().is_terminal(),
        "standard output is no terminal: `--once` prints one frame as text"
    );
    let (columns, _) = ratatui::crossterm::terminal::size().context("the size of the terminal")?;
    ensure!(
        columns >= NARROWEST,
        "the terminal has {columns} columns, and {NARROWEST} are the fewest: make it wider, or use `--once --columns 80`"
    );
    let mut terminal = ratatui::try_init().context("preparing the terminal")?;
    let result = watch(&mut terminal, &mut reader, &mut state, period);
    ratatui::restore();
    result
}

/// Draws until a key ends it.
fn watch(
    terminal: &mut ratatui::DefaultTerminal,
    reader: &mut Reader,
    state: &mut State,
    period: Duration,
) -> anyhow::Result<()> {
    let mut due = std::time::Instant::now() + period;
    loop {
        terminal.draw(|frame| draw(state, frame.area(), frame.buffer_mut())).context("drawing")?;
        let left = due.saturating_duration_since(std::time::Instant::now());
        if !event::poll(left).context("reading the keyboard")? {
            state.take(reader.read()?);
            due += period;
            continue;
        }
        let Event::Key(key) = event::read().context("reading the keyboard")? else { continue };
        if key.kind == KeyEventKind::Release {
            continue;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Ok(()),
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return Ok(()),
            KeyCode::Char(letter) => state.sort = Sort::of_key(letter).unwrap_or(state.sort),
            _ => {}
        }
    }
}

/// A frame as text.
fn text(state: &State, columns: u16, lines: u16) -> anyhow::Result<String> {
    ensure!(columns >= NARROWEST, "--columns {columns}: {NARROWEST} are the fewest");
    let mut terminal = Terminal::new(TestBackend::new(columns, lines)).context("making a frame")?;
    let frame = terminal.draw(|frame| draw(state, frame.area(), frame.buffer_mut())).context("drawing")?;
    let cells = frame.buffer.content();
    let line = |cells: &[ratatui::buffer::Cell]| {
        let line: String = cells.iter().map(|cell| cell.symbol()).collect();
        format!("{}\n", line.trim_end())
    };
    let text: String = cells.chunks(usize::from(columns)).map(line).collect();
    Ok(format!("{}\n", text.trim_end()))
}
