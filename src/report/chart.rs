//! Scatter charts as SVG, drawn by plotters: panels side by side under one title, text as text.
//!
//! Axes are linear or logarithmic with ticks of our own (1, 2, 5 a decade; round steps), since a range of lengths is
//! seldom a whole number of decades. Left out: legends, bitmaps, anything that moves.

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::*;

use super::text::plain;

/// Pixels of one panel.
const PANEL: (u32, u32) = (400, 320);
const TITLE_HEIGHT: u32 = 40;
const FONT: &str = "sans-serif";
const POINTS: RGBColor = RGBColor(31, 119, 180);
const LINES: RGBColor = RGBColor(214, 39, 40);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Room beside the outermost points, as a share of the range.
const ROOM: f64 = 0.05;
/// Fewer ticks than this on a logarithmic axis give way to evenly spaced ones.
const LEAST_TICKS: usize = 3;
const MOST_TICKS: usize = 7;

#[derive(Debug, thiserror::Error)]
#[error("cannot draw a chart: {0}")]
pub struct ChartError(String);

impl ChartError {
    pub(super) fn new(error: impl std::fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// Points and straight lines over two axes. What is no finite number, or not above 0 on a logarithmic axis, is not drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    pub title: String,
    pub x: Axis,
    pub y: Axis,
    pub points: Vec<(f64, f64)>,
    /// A line through these, in order.
    pub path: Vec<(f64, f64)>,
    /// From one end of the x axis to the other.
    pub lines: Vec<Line>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    pub label: String,
    pub scale: Scale,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    Linear,
    Logarithmic,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Line {
    /// y = value.
    Level(f64),
    /// y = factor * x.
    Proportional(f64),
}

/// The charts in rows of `columns`, under `title`, as one SVG document.
///
/// # Errors
/// None are known to occur: drawing into memory does not fail.
pub fn svg(title: &str, charts: &[Chart], columns: usize) -> Result<String, ChartError> {
    let columns = columns.clamp(1, charts.len().max(1));
    let rows = charts.len().div_ceil(columns);
    let size = (PANEL.0 * columns as u32, PANEL.1 * rows as u32 + TITLE_HEIGHT);
    let mut document = String::new();
    {
        let root = SVGBackend::with_string(&mut document, size).into_drawing_area();
        root.fill(&WHITE).map_err(error)?;
        let (head, body) = root.split_vertically(TITLE_HEIGHT);
        head.draw(&Text::new(plain(title), (12, 12), (FONT, 20))).map_err(error)?;
        for (area, chart) in body.split_evenly((rows, columns)).iter().zip(charts) {
            draw(area, chart)?;
        }
        root.present().map_err(error)?;
    }
    Ok(document)
}

fn draw(area: &DrawingArea<SVGBackend<'_>, Shift>, chart: &Chart) -> Result<(), ChartError> {
    let (x, y) = (chart.x.scale, chart.y.scale);
    let on_axes = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
        points.iter().filter_map(|point| Some((x.place(point.0)?, y.place(point.1)?))).collect()
    };
    let (placed, path) = (on_axes(&chart.points), on_axes(&chart.path));
    let all = || placed.iter().chain(&path);
    let (across, up) = (span(all().map(|point| point.0)), span(all().map(|point| point.1)));
    let mut builder = ChartBuilder::on(area);
    builder.caption(plain(&chart.title), (FONT, 16)).margin(10).x_label_area_size(44).y_label_area_size(70);
    let mut canvas = builder.build_cartesian_2d(Ticked::new(x, across), Ticked::new(y, up)).map_err(error)?;
    canvas
        .configure_mesh()
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .axis_desc_style((FONT, 14))
        .label_style((FONT, 13))
        .x_desc(plain(&chart.x.label))
        .y_desc(plain(&chart.y.label))
        .draw()
        .map_err(error)?;
    for line in &chart.lines {
        let end = |at: f64| Some((at, y.place(line.at(x.value(at)))?));
        if let (Some(start), Some(end)) = (end(across.0), end(across.1))
            && let Some(ends) = clipped(start, end, up)
        {
            canvas.draw_series([PathElement::new(ends, LINES.mix(0.6))]).map_err(error)?;
        }
    }
    canvas.draw_series((path.len() > 1).then(|| PathElement::new(path.clone(), LINES.mix(0.6)))).map_err(error)?;
    if placed.is_empty() {
        let middle = ((across.0 + across.1) / 2.0, (up.0 + up.1) / 2.0);
        canvas.draw_series([Text::new("nothing to show", middle, (FONT, 14))]).map_err(error)?;
    }
    let style = POINTS.mix(0.55).filled();
    canvas.draw_series(placed.into_iter().map(|point| Circle::new(point, 3, style))).map_err(error)?;
    Ok(())
}

/// An axis with our ticks, labelled in values.
struct Ticked {
    scale: Scale,
    ends: (f64, f64),
    ticks: Vec<f64>,
}

impl Ticked {
    fn new(scale: Scale, ends: (f64, f64)) -> Self {
        Self { scale, ends, ticks: scale.ticks(ends) }
    }
}

impl Ranged for Ticked {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, at: &f64, (first, last): (i32, i32)) -> i32 {
        let (low, high) = self.ends;
        // Halves, since the ends may be further apart than the largest number.
        let share = (at / 2.0 - low / 2.0) / (high / 2.0 - low / 2.0);
        first + (share * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() { Vec::new() } else { self.ticks.clone() }
    }

    fn range(&self) -> std::ops::Range<f64> {
        self.ends.0..self.ends.1
    }
}

impl ValueFormatter<f64> for Ticked {
    fn format(at: &f64) -> String {
        label(*at)
    }

    fn format_ext(&self, at: &f64) -> String {
        label(self.scale.value(*at))
    }
}

impl Line {
    fn at(self, x: f64) -> f64 {
        match self {
            Self::Level(value) => value,
            Self::Proportional(factor) => factor * x,
        }
    }
}

impl Scale {
    /// Where a value stands on the axis; `None` if it cannot.
    fn place(self, value: f64) -> Option<f64> {
        let at = if self == Self::Logarithmic { value.log10() } else { value };
        at.is_finite().then_some(at)
    }

    fn value(self, at: f64) -> f64 {
        if self == Self::Logarithmic { 10f64.powf(at) } else { at }
    }

    /// Ascending places between the ends of an axis.
    fn ticks(self, (low, high): (f64, f64)) -> Vec<f64> {
        if self == Self::Logarithmic {
            let decades = || (low.floor() as i32..=high.ceil() as i32).map(f64::from);
            let of = |parts: &[f64]| -> Vec<f64> {
                let all = decades().flat_map(|decade| parts.iter().map(move |part| decade + part.log10()));
                all.filter(|at| (low..=high).contains(at)).collect()
            };
            for parts in [&[1.0, 2.0, 5.0][..], &[1.0]] {
                let ticks = of(parts);
                if (LEAST_TICKS..=MOST_TICKS).contains(&ticks.len()) {
                    return ticks;
                }
            }
            let decades = of(&[1.0]);
            if decades.len() > MOST_TICKS {
                let stride = decades.len().div_ceil(MOST_TICKS);
                return decades.into_iter().step_by(stride).collect();
            }
            // Less than a decade: round steps of the value itself.
            let (low, high) = (self.value(low), self.value(high));
            return Self::Linear.ticks((low, high)).into_iter().filter_map(|value| self.place(value)).collect();
        }
        let rough = (high - low) / (MOST_TICKS - 1) as f64;
        let decade = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|part| part * decade).find(|step| *step >= rough);
        let step = step.unwrap_or(10.0 * decade);
        let first = (low / step).ceil();
        (0..=MOST_TICKS).map(|k| (first + k as f64) * step).take_while(|at| *at <= high).collect()
    }
}

/// The part of a line whose height lies between `low` and `high`.
fn clipped(start: (f64, f64), end: (f64, f64), (low, high): (f64, f64)) -> Option<[(f64, f64); 2]> {
    let rise = end.1 - start.1;
    if rise == 0.0 {
        return (low..=high).contains(&start.1).then_some([start, end]);
    }
    let share = |height: f64| ((height - start.1) / rise).clamp(0.0, 1.0);
    let (first, last) = if rise > 0.0 { (share(low), share(high)) } else { (share(high), share(low)) };
    let at = |share: f64| (start.0 + share * (end.0 - start.0), start.1 + share * rise);
    (first < last).then(|| [at(first), at(last)])
}

/// The range of an axis that shows all values, with room beside them.
fn span(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| (low.min(at), high.max(at)));
    if low > high {
        return (0.0, 1.0);
    }
    let room = if high > low { ROOM * high - ROOM * low } else { ROOM.max(ROOM * high.abs()) };
    (low - room, high + room)
}

/// At most four digits, without the zeros behind them.
fn label(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        return format!("{value:.0e}");
    }
    let digits = if value == 0.0 { 0 } else { (3 - value.abs().log10().floor() as i32).clamp(0, 6) };
    let text = format!("{value:.*}", digits as usize);
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

fn error(error: impl std::fmt::Display) -> ChartError {
    ChartError::new(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: Vec<(f64, f64)>) -> Chart {
        Chart {
            title: "a <b> & \u{7}".into(),
            x: Axis { label: "measured, J".into(), scale: Scale::Logarithmic },
            y: Axis { label: "error, %".into(), scale: Scale::Linear },
            points,
            path: vec![],
            lines: vec![Line::Level(0.0)],
        }
    }

    #[test]
    fn every_drawable_point_is_a_circle_and_text_is_text() {
        let points = vec![(8.0, 1.0), (2048.0, -2.0), (f64::NAN, 1.0), (-1.0, 1.0), (1.0, f64::INFINITY)];
        let svg = svg("Llama", &[chart(points), chart(vec![])], 2).unwrap();
        assert_eq!(svg.matches("<circle").count(), 2);
        for text in ["Llama", "measured, J", "a &lt;b&gt; &amp; \\u{7}", "nothing to show", "1000"] {
            assert!(svg.contains(&format!("\n{text}\n")), "{text} in {svg}");
        }
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    }

    #[test]
    fn hostile_ranges_draw_something() {
        for points in [vec![(1e-300, 1e300), (1e300, -1e300)], vec![(5.0, 0.0)], vec![(5.0, 1e-12), (5.000_001, 1.0)]] {
            assert!(svg("t", &[chart(points)], 1).is_ok());
        }
    }

    #[test]
    fn lines_end_where_the_chart_does() {
        let corner = clipped((0.0, -1.0), (4.0, 3.0), (0.0, 1.0)).unwrap();
        assert_eq!(corner, [(1.0, 0.0), (2.0, 1.0)]);
        assert_eq!(clipped((0.0, 3.0), (4.0, -1.0), (0.0, 1.0)).unwrap(), [(2.0, 1.0), (3.0, 0.0)]);
        assert_eq!(clipped((0.0, 5.0), (1.0, 5.0), (0.0, 1.0)), None);
        assert_eq!(clipped((0.0, 5.0), (1.0, 6.0), (0.0, 1.0)), None);
    }

    #[test]
    fn ticks_are_round_numbers() {
        let labels = |scale: Scale, low: f64, high: f64| -> Vec<String> {
            let ends = (scale.place(low).unwrap(), scale.place(high).unwrap());
            scale.ticks(ends).into_iter().map(|at| label(scale.value(at))).collect()
        };
        assert_eq!(labels(Scale::Logarithmic, 7.0, 600.0), ["10", "20", "50", "100", "200", "500"]);
        assert_eq!(labels(Scale::Logarithmic, 1.0, 1e5), ["1", "10", "100", "1000", "10000", "100000"]);
        assert_eq!(labels(Scale::Logarithmic, 21.0, 48.0), ["25", "30", "35", "40", "45"]);
        assert_eq!(labels(Scale::Linear, -12.0, 9.0), ["-10", "-5", "0", "5"]);
        assert!(labels(Scale::Logarithmic, 1e-9, 1e9).len() <= MOST_TICKS);
    }
}
