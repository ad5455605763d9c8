//! The show as an animated SVG: printed lines, and a bar per backend, at each tick. The README has one.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Number of text lines above the bars, and of bars.
const TEXT_LINES: usize = 14;
const BARS: usize = 8;
const COLUMNS: usize = 76;
/// Sizes in the picture's units.
const CHAR: usize = 8;
const LINE: usize = 19;
const MARGIN: usize = 14;
/// Columns of a full bar.
const FULL_COLUMNS: usize = 40;
/// Time for which the last frame stays before the animation repeats.
const REST: Duration = Duration::from_secs(4);

/// A backend's name, its replies per second, and its replies since the part began.
pub(super) type Bar = (String, u64, u64);

#[derive(Debug)]
pub(super) struct Picture {
    began: Instant,
    /// Columns for a name.
    width: usize,
    /// Replies per second of a full bar.
    full: u64,
    said: Vec<(Duration, String)>,
    ticks: Vec<(Duration, Vec<Bar>)>,
}

impl Picture {
    pub(super) fn new(width: usize, full: u64) -> Self {
        Self { began: Instant::now(), width, full, said: Vec::new(), ticks: Vec::new() }
    }

    pub(super) fn line(&mut self, line: &str) {
        self.said.push((self.began.elapsed(), line.to_owned()));
    }

    pub(super) fn tick(&mut self, bars: Vec<Bar>) {
        self.ticks.push((self.began.elapsed(), bars));
    }

    pub(super) fn svg(&self) -> String {
        // Setting up is shown for only a second.
        let skipped =
            self.ticks.first().map_or(Duration::ZERO, |(at, _)| at.saturating_sub(Duration::from_secs(1)));
        let end = (self.began.elapsed() + REST).saturating_sub(skipped);
        let (width, height) = (COLUMNS * CHAR + 2 * MARGIN, (TEXT_LINES + BARS + 2) * LINE + 2 * MARGIN);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" font-size=\"13\" \
             font-family=\"ui-monospace, Menlo, Consolas, monospace\" fill=\"#d0d7de\" xml:space=\"preserve\">\n\
             <title>cargo xtask run</title>\n\
             <rect width=\"{width}\" height=\"{height}\" rx=\"8\" fill=\"#0d1117\"/>\n"
        );
        text(&mut svg, 0, 0, "#7ee787", "$ cargo xtask run");
        // A line stays until further lines come.
        for (number, span) in
            spans(self.said.iter().map(|(at, _)| at.saturating_sub(skipped)), end).into_iter().enumerate()
        {
            let first = (number + 1).saturating_sub(TEXT_LINES);
            group(&mut svg, span, end, |svg| {
                for (row, (_, line)) in self.said.iter().take(number + 1).skip(first).enumerate() {
                    text(svg, 0, row + 1, "#d0d7de", &line.chars().take(COLUMNS).collect::<String>());
                }
            });
        }
        for ((_, bars), span) in
            self.ticks.iter().zip(spans(self.ticks.iter().map(|(at, _)| at.saturating_sub(skipped)), end))
        {
            group(&mut svg, span, end, |svg| self.bars(svg, bars));
        }
        svg.push_str("</svg>\n");
        svg
    }

    fn bars(&self, svg: &mut String, bars: &[Bar]) {
        for (number, (name, per_second, count)) in bars.iter().take(BARS).enumerate() {
            let row = TEXT_LINES + 2 + number;
            text(svg, 0, row, "#d0d7de", &format!("{name:>width$}", width = self.width));
            let columns = usize::try_from((*per_second).min(self.full)).unwrap_or(0) * FULL_COLUMNS
                / usize::try_from(self.full).unwrap_or(1).max(1);
            let (x, y) = (MARGIN + (self.width + 1) * CHAR, MARGIN + row * LINE + 4);
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"{}\" height=\"{}\" fill=\"#39c5cf\"/>",
                columns * CHAR,
                LINE - 5
            );
            let numbers = format!("{per_second:>4}/s {count:>7}");
            text(svg, self.width + 2 + FULL_COLUMNS, row, "#8b949e", &numbers);
        }
    }
}

/// From each moment to the next, the last one to the end.
fn spans(moments: impl Iterator<Item = Duration>, end: Duration) -> Vec<Range<Duration>> {
    let moments: Vec<_> = moments.collect();
    let next = moments.iter().skip(1).copied().chain([end]);
    moments.iter().copied().zip(next).map(|(from, to)| from..to).collect()
}

/// Visible during the span, repeatedly. Without animation the last group is visible.
fn group(svg: &mut String, span: Range<Duration>, end: Duration, draw: impl FnOnce(&mut String)) {
    let share = |moment: Duration| moment.as_secs_f64() / end.as_secs_f64();
    let (from, to) = (share(span.start), share(span.end));
    let (values, times) = match span.end >= end {
        true => ("hidden;visible", format!("0;{from:.4}")),
        false => ("hidden;visible;hidden", format!("0;{from:.4};{to:.4}")),
    };
    let at_rest = if span.end >= end { "visible" } else { "hidden" };
    let _ = writeln!(
        svg,
        "<g visibility=\"{at_rest}\"><animate attributeName=\"visibility\" calcMode=\"discrete\" dur=\"{:.2}s\" \
         repeatCount=\"indefinite\" values=\"{values}\" keyTimes=\"{times}\"/>",
        end.as_secs_f64()
    );
    draw(svg);
    svg.push_str("</g>\n");
}

fn text(svg: &mut String, column: usize, row: usize, color: &str, line: &str) {
    if line.trim().is_empty() {
        return;
    }
    let (x, y) = (MARGIN + column * CHAR, MARGIN + (row + 1) * LINE - 5);
    let special = BTreeMap::from([('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;")]);
    let escaped = line.chars().fold(String::new(), |mut text, c| {
        match special.get(&c) {
            Some(word) => text.push_str(word),
            None => text.push(c),
        }
        text
    });
    // Fixed columns for the characters, in any font.
    let length = line.chars().count() * CHAR;
    let _ = writeln!(
        svg,
        "<text x=\"{x}\" y=\"{y}\" textLength=\"{length}\" lengthAdjust=\"spacingAndGlyphs\" fill=\"{color}\">{escaped}</text>"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_ends_where_the_next_one_begins_and_the_last_at_the_end() {
        let second = Duration::from_secs;
        assert_eq!(
            spans([1, 3].map(second).into_iter(), second(9)),
            [second(1)..second(3), second(3)..second(9)]
        );
        let shown = |span| {
            let mut svg = String::new();
            group(&mut svg, span, second(10), |_| {});
            svg.split_once("values=").map(|(_, rest)| rest.replace(['"', '\n'], "")).unwrap_or_default()
        };
        assert_eq!(shown(second(1)..second(3)), "hidden;visible;hidden keyTimes=0;0.1000;0.3000/></g>");
        assert_eq!(shown(second(3)..second(10)), "hidden;visible keyTimes=0;0.3000/></g>");
    }

    #[test]
    fn printed_lines_are_escaped() {
        let mut picture = Picture::new(8, 200);
        picture.line("a <b> & c");
        picture.tick(vec![("web-1".into(), 100, 7)]);
        let svg = picture.svg();
        assert!(svg.contains(">a &lt;b&gt; &amp; c</text>"), "{svg}");
        assert!(svg.contains("   web-1</text>") && svg.contains("width=\"160\""), "{svg}");
    }
}
