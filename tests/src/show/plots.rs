//! Plots of a daemon's metrics during the show: some panels of the dashboard, with real data.

use std::collections::{BTreeMap, BTreeSet};
use std::error::Error;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use crate::metrics_page;

/// Time between two scrapes.
const INTERVAL: Duration = Duration::from_secs(1);
/// Seconds over which a rate is taken.
const WINDOW: f64 = 6.0;
const COLUMNS: usize = 2;
/// Size of a plot, in the picture's units.
const SIZE: (u32, u32) = (480, 230);
const COLORS: [RGBColor; 8] = [
    RGBColor(31, 119, 180),
    RGBColor(255, 127, 14),
    RGBColor(44, 160, 44),
    RGBColor(214, 39, 40),
    RGBColor(148, 103, 189),
    RGBColor(140, 86, 75),
    RGBColor(227, 119, 194),
    RGBColor(127, 127, 127),
];

/// The part of a metric that is drawn.
#[derive(Clone, Copy)]
enum PlotValue {
    Rate,
    /// The value, divided by this.
    Value(f64),
}

struct Plot {
    /// As in the dashboard.
    title: &'static str,
    unit: &'static str,
    metric: &'static str,
    by: Option<&'static str>,
    shown: PlotValue,
}

const PLOTS: [Plot; 8] = [
    plot("Services by new flows", "per second", "svc_service_flows_total", Some("service"), PlotValue::Rate),
    plot("Live flows", "flows", "svc_flows", Some("ip_family"), PlotValue::Value(1.0)),
    plot("Services by packets", "per second", "svc_service_packets_total", Some("service"), PlotValue::Rate),
    plot("DNS responses by code", "per second", "svc_dns_responses_total", Some("code"), PlotValue::Rate),
    plot("Table writes", "per second", "svc_table_writes_total", None, PlotValue::Rate),
    plot("Addresses by who answers", "addresses", "svc_lb_addresses", Some("state"), PlotValue::Value(1.0)),
    plot("Memory (RSS)", "MB", "process_resident_memory_bytes", None, PlotValue::Value(1e6)),
    plot("CPU", "cores", "process_cpu_seconds_total", None, PlotValue::Rate),
];

const fn plot(
    title: &'static str,
    unit: &'static str,
    metric: &'static str,
    by: Option<&'static str>,
    shown: PlotValue,
) -> Plot {
    Plot { title, unit, metric, by, shown }
}

/// The pages so far, with their time in seconds.
pub(super) struct Plots {
    began: Instant,
    pages: Vec<(f64, String)>,
}

impl Plots {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), pages: Vec::new() }
    }

    /// It is time for the next page.
    pub(super) fn is_due(&self) -> bool {
        self.pages
            .last()
            .is_none_or(|(at, _)| self.began.elapsed().as_secs_f64() - at >= INTERVAL.as_secs_f64())
    }

    pub(super) fn add(&mut self, page: String) {
        self.pages.push((self.began.elapsed().as_secs_f64(), page));
    }

    pub(super) fn svg(&self) -> Result<String> {
        let mut svg = String::new();
        self.draw(&mut svg).map_err(|error| anyhow!("draw the plots: {error}"))?;
        Ok(svg)
    }

    fn draw(&self, svg: &mut String) -> Result<(), Box<dyn Error>> {
        let rows = PLOTS.len().div_ceil(COLUMNS);
        let height = SIZE.1 * u32::try_from(rows)?;
        let root =
            SVGBackend::with_string(svg, (SIZE.0 * u32::try_from(COLUMNS)?, height)).into_drawing_area();
        root.fill(&WHITE)?;
        let end = self.pages.last().map_or(1.0, |(at, _)| *at);
        for (area, plot) in root.split_evenly((rows, COLUMNS)).iter().zip(&PLOTS) {
            let lines = self.lines(plot);
            let top = lines.values().flatten().map(|(_, value)| *value).fold(0.0, f64::max);
            // Names of lines stand above them.
            let headroom = if plot.by.is_some() { 1.9 } else { 1.25 };
            let mut chart = ChartBuilder::on(area)
                .caption(plot.title, ("sans-serif", 15))
                .margin(8)
                .x_label_area_size(22)
                .y_label_area_size(62)
                .build_cartesian_2d(0.0..end, 0.0..if top > 0.0 { top * headroom } else { 1.0 })?;
            let mut mesh = chart.configure_mesh();
            mesh.disable_x_mesh().light_line_style(WHITE).x_label_formatter(&|at| format!("{at:.0} s"));
            mesh.y_desc(plot.unit).draw()?;
            for ((name, points), color) in lines.into_iter().zip(COLORS.iter().cycle()) {
                let line = chart.draw_series(LineSeries::new(points, color.stroke_width(2)))?;
                if !name.is_empty() {
                    let sample = move |(x, y)| PathElement::new([(x, y), (x + 14, y)], color.stroke_width(2));
                    line.label(name).legend(sample);
                }
            }
            if plot.by.is_some() {
                let mut legend = chart.configure_series_labels();
                legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.5)).draw()?;
            }
        }
        root.present()?;
        Ok(())
    }

    /// The points of each line that is not zero all the time.
    fn lines(&self, plot: &Plot) -> BTreeMap<String, Vec<(f64, f64)>> {
        let samples: Vec<(f64, BTreeMap<String, f64>)> = self
            .pages
            .iter()
            .map(|(at, page)| (*at, metrics_page::sums(page, plot.metric, plot.by)))
            .collect();
        let names: BTreeSet<&String> = samples.iter().flat_map(|(_, sums)| sums.keys()).collect();
        let mut lines = BTreeMap::new();
        for name in names {
            let values: Vec<(f64, f64)> =
                samples.iter().map(|(at, sums)| (*at, sums.get(name).copied().unwrap_or(0.0))).collect();
            let points = match plot.shown {
                PlotValue::Value(unit) => values.iter().map(|(at, value)| (*at, value / unit)).collect(),
                PlotValue::Rate => rates(&values),
            };
            if points.iter().any(|(_, value)| *value > 0.0) {
                lines.insert(name.clone(), points);
            }
        }
        lines
    }
}

/// The growth per second at each moment, over the window before it.
fn rates(values: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let at_moment = values.iter().enumerate().filter_map(|(number, (now, value))| {
        let (then, before) = values.iter().take(number).find(|(at, _)| now - at <= WINDOW)?;
        Some((*now, (value - before) / (now - then)))
    });
    at_moment.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_taken_over_the_window() {
        let values = [(0.0, 0.0), (5.0, 10.0), (10.0, 10.0), (20.0, 30.0)];
        assert_eq!(rates(&values), [(5.0, 2.0), (10.0, 0.0)]);
    }

    #[test]
    fn each_plot_is_drawn_with_the_names_of_its_lines() {
        let mut plots = Plots::new();
        for octets in [1e6, 2e6] {
            plots.add(format!("process_resident_memory_bytes {octets}\nsvc_flows{{ip_family=\"IPv6\"}} 3\n"));
        }
        let svg = plots.svg().unwrap();
        assert!(PLOTS.iter().all(|plot| svg.contains(plot.title)), "{svg}");
        assert!(svg.contains("IPv6") && svg.matches("<polyline").count() >= 2, "{svg}");
    }
}
