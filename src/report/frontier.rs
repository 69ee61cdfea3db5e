//! A frontier as a table and as a chart: joules over a limit, and the bound below them.

use super::chart::{Axis, Chart, ChartError, Scale, svg};
use crate::formats::plan_json::FrontierPoint;
use crate::plan::PlanProblem;
use crate::plan::limits::{Limit, Point};

pub const FRONTIER_CSV: &str = "frontier.csv";
pub const FRONTIER_SVG: &str = "frontier.svg";
const HEADER: &str = "limit,value,loosened,unit,objective_j,bound_j,gap,makespan_s";

/// Points of the frontier of `limit`, in hours, percent or watts.
pub fn points(problem: &PlanProblem, limit: &Limit, points: &[Point]) -> Vec<FrontierPoint> {
    let (name, unit, given, scale) = match limit {
        // The last deadline stands for all: they move together.
        Limit::Deadline(_) => ("deadline", "h", problem.horizon() / 3600.0, 1.0 / 3600.0),
        Limit::Accuracy(jobs) => {
            // Floors are lowered: what is looser is less. Their mean over requests stands for them.
            let floors = jobs.iter().filter_map(|&job| {
                let requests = problem.requests_of_job[job] as f64;
                Some((problem.workload.jobs[job].floor?.percent * requests, requests))
            });
            let (sum, requests) = floors.fold((0.0, 0.0), |sum, next| (sum.0 + next.0, sum.1 + next.1));
            ("accuracy", "%", if requests > 0.0 { sum / requests } else { 0.0 }, -1.0)
        }
        Limit::Nodes(_) => ("devices", "nodes", 0.0, 1.0),
        Limit::Power => {
            // All steps move together: the lowest stands for them.
            let cap = problem.cluster.site.power_cap.as_ref();
            ("power", "W", cap.map_or(0.0, |cap| cap.least(0.0, problem.horizon())), 1.0)
        }
    };
    let point = |point: &Point| FrontierPoint {
        limit: name.to_owned(),
        value: (given + scale * point.loosened).max(0.0),
        loosened: scale.abs() * point.loosened,
        unit: unit.to_owned(),
        objective_j: point.objective,
        bound_j: point.bound,
        gap: point.gap(),
        makespan_s: point.makespan,
    };
    points.iter().map(point).collect()
}

pub fn csv(points: &[FrontierPoint]) -> String {
    let row = |point: &FrontierPoint| {
        let FrontierPoint { limit, value, loosened, unit, objective_j, bound_j, gap, makespan_s } = point;
        format!("{limit},{value},{loosened},{unit},{objective_j},{bound_j},{gap},{makespan_s}\n")
    };
    format!("{HEADER}\n") + &points.iter().map(row).collect::<String>()
}

/// The plans as points, the bound as a line.
///
/// # Errors
/// Those of the chart.
pub fn chart(points: &[FrontierPoint]) -> Result<String, ChartError> {
    let (label, scale) = match points.first().map(|point| point.limit.as_str()) {
        Some("deadline") => ("last deadline, h", Scale::Logarithmic),
        Some("accuracy") => ("mean accuracy floor, %", Scale::Linear),
        Some("power") => ("power cap, W", Scale::Linear),
        _ => ("limit", Scale::Linear),
    };
    let at =
        |joules: fn(&FrontierPoint) -> f64| points.iter().map(|point| (point.value, joules(point) / 1e6)).collect();
    let chart = Chart {
        title: "plans, and the bound below them".to_owned(),
        x: Axis { label: label.to_owned(), scale },
        y: Axis { label: "energy, MJ".to_owned(), scale: Scale::Linear },
        points: at(|point| point.objective_j),
        path: at(|point| point.bound_j),
        lines: Vec::new(),
    };
    svg("Frontier", &[chart], 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_and_a_circle_a_point() {
        let point = |value: f64, objective_j: f64| FrontierPoint {
            limit: "deadline".into(),
            value,
            loosened: value - 2.0,
            unit: "h".into(),
            objective_j,
            bound_j: 0.99 * objective_j,
            gap: 0.01,
            makespan_s: 60.0,
        };
        let points = [point(1.0, 3e6), point(2.0, 2e6), point(8.0, 1.5e6)];
        assert_eq!(csv(&points).lines().count(), 4);
        assert!(csv(&points).contains("\ndeadline,2,0,h,2000000,1980000,0.01,60\n"), "{}", csv(&points));
        let svg = chart(&points).unwrap();
        assert_eq!(svg.matches("<circle").count(), 3);
        assert!(svg.contains("last deadline, h") && svg.contains("<polyline"), "{svg}");
    }
}
