//! Energy and accuracy over zeta, one column of panels a queue: what the paper draws.

use plotters::prelude::*;

use super::study::Outcome;

const PANEL: (u32, u32) = (480, 340);
const LEGEND: u32 = 320;

/// What is drawn of an outcome, and over which axis.
type Panel<'a> = (&'a str, fn(&Outcome) -> f64);

pub fn svg(outcomes: &[Outcome], queues: &[usize]) -> Result<String, Box<dyn std::error::Error>> {
    let panels: [Panel; 2] = [
        ("energy, kJ per query", |outcome| outcome.phase_j / 1e3 / outcome.queries as f64),
        ("accuracy, %", |outcome| outcome.accuracy),
    ];
    let mut names: Vec<&str> = outcomes.iter().map(|outcome| outcome.strategy.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let style = |n: usize, swept: bool| Palette99::pick(n).to_rgba().stroke_width(if swept { 3 } else { 1 });
    let mut document = String::new();
    {
        let charts = (PANEL.0 * queues.len() as u32, PANEL.1 * panels.len() as u32);
        let root = SVGBackend::with_string(&mut document, (charts.0 + LEGEND, charts.1)).into_drawing_area();
        root.fill(&WHITE)?;
        let (body, legend) = root.split_horizontally(charts.0);
        for (index, area) in body.split_evenly((panels.len(), queues.len())).iter().enumerate() {
            let ((label, value), queries) = (panels[index / queues.len()], queues[index % queues.len()]);
            let shown: Vec<&Outcome> = outcomes.iter().filter(|outcome| outcome.queries == queries).collect();
            let values = || shown.iter().map(|outcome| value(outcome));
            let (low, high) = (values().fold(f64::INFINITY, f64::min), values().fold(0.0, f64::max));
            let room = 0.05 * (high - low).max(f64::MIN_POSITIVE);
            let mut chart = ChartBuilder::on(area)
                .caption(format!("{queries} queries"), ("sans-serif", 16))
                .margin(8)
                .x_label_area_size(34)
                .y_label_area_size(56)
                .build_cartesian_2d(0.0..1.0, (low - room)..(high + room))?;
            chart.configure_mesh().x_desc("zeta").y_desc(label).light_line_style(WHITE).draw()?;
            for (n, name) in names.iter().enumerate() {
                let of_name = shown.iter().filter(|outcome| outcome.strategy == *name);
                let points: Vec<(f64, f64)> = of_name
                    .flat_map(|outcome| match outcome.zeta {
                        Some(zeta) => vec![(zeta, value(outcome))],
                        None => vec![(0.0, value(outcome)), (1.0, value(outcome))],
                    })
                    .collect();
                let line = style(n, points.len() > 2);
                chart.draw_series(std::iter::once(PathElement::new(points, line)))?;
            }
        }
        for (n, name) in names.iter().enumerate() {
            let y = 40 + 18 * n as i32;
            let swept = outcomes.iter().any(|outcome| outcome.strategy == *name && outcome.zeta.is_some());
            legend.draw(&PathElement::new([(8, y + 6), (32, y + 6)], style(n, swept)))?;
            legend.draw(&Text::new(*name, (40, y), ("sans-serif", 12)))?;
        }
        root.present()?;
    }
    Ok(document)
}
