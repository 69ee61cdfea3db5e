//! The charts of a fit: measured against predicted, and the relative error by input length, output length and batch.

use crate::domain::Quality;
use crate::fit::FitReport;
use crate::fit::FittedFamily;
use crate::fit::cells::{Cell, Comparison};
use crate::report::chart::{Axis, Chart, ChartError, Line, Scale, svg};

/// Energy or runtime, as charts name it.
#[derive(Clone, Copy)]
struct Target {
    name: &'static str,
    unit: &'static str,
    of: fn(&Cell) -> Option<Comparison>,
}

const ENERGY: Target = Target { name: "energy", unit: "J", of: |cell| cell.energy };
const RUNTIME: Target = Target { name: "runtime", unit: "s", of: |cell| cell.runtime };

/// One family: a row of charts for energy, one for runtime.
pub fn family(family: &FittedFamily) -> Result<String, ChartError> {
    let model = &family.model;
    let mut charts = Vec::new();
    for (target, quality) in [(ENERGY, &model.energy_quality), (RUNTIME, &model.runtime_quality)] {
        charts.push(agreement(target, family.cells.iter(), Some(quality)));
        charts.push(errors(target, &family.cells, "input tokens", |cell| cell.input));
        charts.push(errors(target, &family.cells, "output tokens", |cell| Some(cell.output)));
        charts.push(errors(target, &family.cells, "mean running batch", |cell| Some(cell.batch)));
    }
    svg(&model.key.to_string(), &charts, 4)
}

/// All families in one chart for energy, one for runtime.
pub fn all(report: &FitReport) -> Result<String, ChartError> {
    let cells = || report.families.iter().flat_map(|family| &family.cells);
    let charts = [agreement(ENERGY, cells(), None), agreement(RUNTIME, cells(), None)];
    svg("All families", &charts, 2)
}

/// Measured over predicted, the line of equality, and the factors that 90 % lie between.
fn agreement<'a>(target: Target, cells: impl Iterator<Item = &'a Cell>, quality: Option<&Quality>) -> Chart {
    let mut lines = vec![Line::Proportional(1.0)];
    if let Some((low, high)) = quality.and_then(|quality| quality.error_factors) {
        lines.extend([Line::Proportional(low), Line::Proportional(high)]);
    }
    let axis = |what: &str| Axis {
        label: format!("{what} {}, {} per request", target.name, target.unit),
        scale: Scale::Logarithmic,
    };
    Chart {
        title: format!("{}: measured and predicted", target.name),
        x: axis("predicted"),
        y: axis("measured"),
        points: cells.filter_map(target.of).map(|c| (c.predicted, c.measured)).collect(),
        path: Vec::new(),
        lines,
    }
}

fn errors(target: Target, cells: &[Cell], by: &str, of: fn(&Cell) -> Option<f64>) -> Chart {
    let points = cells.iter().filter_map(|cell| Some((of(cell)?, 100.0 * (target.of)(cell)?.relative_error())));
    Chart {
        title: format!("{}: error by {by}", target.name),
        x: Axis { label: by.into(), scale: Scale::Logarithmic },
        y: Axis { label: "predicted / measured - 1, %".into(), scale: Scale::Linear },
        points: points.collect(),
        path: Vec::new(),
        lines: vec![Line::Level(0.0)],
    }
}
