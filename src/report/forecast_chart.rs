//! A recording with its forecasts and their band, as SVG by plotters: what came lies on what was said a moment before.

use plotters::prelude::*;

use super::chart::ChartError;
use super::text::plain;
use crate::forecast::Shown;

const SIZE: (u32, u32) = (1100, 420);
const FONT: &str = "sans-serif";
const BAND: RGBColor = RGBColor(31, 119, 180);
const TRUTH: RGBColor = RGBColor(20, 20, 20);
const GRID: RGBColor = RGBColor(225, 225, 225);
/// Forecasts further apart than so many steps are not joined.
const JOINED: usize = 1;

/// The mean power of the next 30 s at each second: as it came, as it was forecast, and between the 5 % and 95 % quantiles.
///
/// # Errors
/// None are known to occur: drawing into memory does not fail.
pub fn svg(title: &str, shown: &[Shown]) -> Result<String, ChartError> {
    let mut document = String::new();
    let seconds = |at: &Shown| at.now as f64;
    let (low, high) = shown.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), at| {
        (low.min(at.truth).min(at.forecast.p5.0), high.max(at.truth).max(at.forecast.p95.0))
    });
    let (low, high) = if low <= high { (low, high) } else { (0.0, 1.0) };
    let room = 0.05 * (high - low) + 1.0;
    let across = shown.first().map_or(0.0, seconds)..shown.last().map_or(0.0, seconds) + 1.0;
    {
        let root = SVGBackend::with_string(&mut document, SIZE).into_drawing_area();
        root.fill(&WHITE).map_err(error)?;
        let mut builder = ChartBuilder::on(&root);
        builder.caption(plain(title), (FONT, 18)).margin(12).x_label_area_size(44).y_label_area_size(76);
        let mut canvas = builder.build_cartesian_2d(across, (low - room)..(high + room)).map_err(error)?;
        canvas
            .configure_mesh()
            .bold_line_style(GRID)
            .light_line_style(TRANSPARENT)
            .label_style((FONT, 13))
            .axis_desc_style((FONT, 14))
            .x_desc("time of the forecast, s")
            .y_desc("mean power of the next 30 s, W")
            .draw()
            .map_err(error)?;
        for run in shown.chunk_by(|a, b| b.now - a.now <= JOINED) {
            let line = |of: fn(&Shown) -> f64| run.iter().map(move |at| (at.now as f64, of(at)));
            let edge: Vec<(f64, f64)> = line(|at| at.forecast.p5.0).chain(line(|at| at.forecast.p95.0).rev()).collect();
            canvas.draw_series([Polygon::new(edge, BAND.mix(0.25))]).map_err(error)?;
            canvas
                .draw_series([PathElement::new(line(|at| at.forecast.p50.0).collect::<Vec<_>>(), BAND)])
                .map_err(error)?;
            canvas.draw_series([PathElement::new(line(|at| at.truth).collect::<Vec<_>>(), TRUTH)]).map_err(error)?;
        }
        root.present().map_err(error)?;
    }
    Ok(document)
}

fn error(error: impl std::fmt::Display) -> ChartError {
    ChartError::new(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::forecast::Quantiles;

    #[test]
    fn each_run_has_a_band_and_two_lines() {
        let at = |now| Shown { now, truth: 100.0 + now as f64, forecast: Quantiles::new(90.0, 100.0, 120.0) };
        let shown: Vec<Shown> = (60..70).chain(200..230).map(at).collect();
        let svg = svg("a <trace>", &shown).unwrap();
        assert_eq!(svg.matches("<polygon").count(), 2);
        assert!(svg.contains("a &lt;trace&gt;") && svg.trim_end().ends_with("</svg>"));
        assert!(super::svg("none", &[]).is_ok());
    }
}
