//! The frame: a pure function of the state.

use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Cell, Paragraph, Row, Table, Widget as _};

use super::state::{ProgramLine, ServiceLine, State};
use crate::cli::args::Sort;

/// The fewest columns in which names and rates have room.
pub const NARROWEST: u16 = 40;
/// From so many columns on, packets and sums are shown as well.
const WIDE: u16 = 80;
/// Lines of drops and of programs, each with a header.
const DROPS: u16 = 7;
const PROGRAMS: u16 = 7;

const BOLD: Style = Style::new().add_modifier(Modifier::BOLD);

pub fn draw(state: &State, area: Rect, buffer: &mut Buffer) {
    if area.width < NARROWEST {
        let text = format!("{NARROWEST} columns are the fewest");
        return Paragraph::new(text).render(area, buffer);
    }
    let parts =
        [Constraint::Length(2), Constraint::Min(3), Constraint::Length(DROPS), Constraint::Length(PROGRAMS)];
    let [head, services, drops, programs] = Layout::vertical(parts).areas(area);
    Paragraph::new(header(state, area.width)).render(head, buffer);
    service_table(state, services, buffer);
    drop_table(state, drops, buffer);
    program_table(state, programs, buffer);
}

fn header(state: &State, width: u16) -> Vec<Line<'static>> {
    let by = match state.sort {
        Sort::New => "new flows",
        Sort::Live => "live flows",
        Sort::Octets => "octets",
        Sort::Name => "name",
    };
    let keys = if width < WIDE {
        "n l o a: sort  q: quit"
    } else {
        "n: new flows  l: live flows  o: octets  a: name  q: quit"
    };
    let unnamed = if state.is_unnamed() { "  no daemon: no Services" } else { "" };
    vec![Line::styled(format!("svc top, by {by}{unnamed}"), BOLD), Line::raw(keys)]
}

fn service_table(state: &State, area: Rect, buffer: &mut Buffer) {
    let is_wide = area.width >= WIDE;
    let row = |line: ServiceLine| {
        let live = line.live.map_or_else(|| "-".to_owned(), |live| short(live as f64));
        let mut cells = vec![line.name, short(line.new), live];
        if is_wide {
            cells.push(short(line.packets));
        }
        cells.push(short(line.octets));
        Row::new(cells.into_iter().map(Cell::from))
    };
    let all = state.services();
    // More rows than lines are not drawn, so they are not made.
    let rows = all.into_iter().take(area.height.into()).map(row);
    let (titles, widths) = match is_wide {
        true => (vec!["SERVICE", "NEW/s", "LIVE", "PACKETS/s", "OCTETS/s"], vec![7, 7, 10, 9]),
        false => (vec!["SERVICE", "NEW/s", "LIVE", "OCT/s"], vec![6, 6, 6]),
    };
    table(rows, &titles, &widths, area, buffer);
}

fn drop_table(state: &State, area: Rect, buffer: &mut Buffer) {
    let rows =
        state.drops().into_iter().map(|(name, rate, sum)| Row::new([name, short(rate), short(sum as f64)]));
    table(rows, &["REFUSED OR DROPPED", "/s", "SUM"], &[6, 7], area, buffer);
}

fn program_table(state: &State, area: Rect, buffer: &mut Buffer) {
    let row = |line: ProgramLine| {
        Row::new([
            line.name,
            short(line.runs),
            format!("{:.0}", line.cost),
            format!("{:.2} %", line.load * 100.0),
        ])
    };
    let rows = state.programs().into_iter().map(row);
    table(rows, &["PROGRAM", "RUNS/s", "ns", "CPU"], &[6, 5, 8], area, buffer);
}

/// A table whose first column takes the room that the others leave.
fn table<'a>(
    rows: impl Iterator<Item = Row<'a>>,
    titles: &[&'a str],
    widths: &[u16],
    area: Rect,
    buffer: &mut Buffer,
) {
    let others = widths.iter().map(|width| Constraint::Length(*width));
    let widths = std::iter::once(Constraint::Min(10)).chain(others);
    Table::new(rows, widths).header(Row::new(titles.to_vec()).style(BOLD)).render(area, buffer);
}

/// A number in at most six characters: `950`, `12.3k`, `4.0M`.
fn short(number: f64) -> String {
    for (unit, name) in [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")] {
        if number >= unit {
            return format!("{:.1}{name}", number / unit);
        }
    }
    if number == 0.0 || number >= 10.0 { format!("{number:.0}") } else { format!("{number:.1}") }
}

#[cfg(test)]
mod tests;
