//! `stats` against statsmodels, to 1e-8 relative: vectors written by tests/vectors/statsmodels_vectors.py. The grid of
//! the offline-serving paper (arXiv 2407.04014) is read from the folder that `JOULEPLAN_REFERENCE_DATA` names; that part
//! skips loudly without it.

mod reference_data;

use std::path::Path;

use jouleplan::domain::Sample;
use jouleplan::stats::{Summary, anova};
use ndarray::{Array1, Array2};
use reference_data::{grid, reference};
use serde_json::Value;

const RELATIVE: f64 = 1e-8;

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    serde_json::from_slice(&std::fs::read(path).expect("the vectors are there")).expect("they are JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn matrix(value: &Value) -> Array2<f64> {
    let rows: Vec<Vec<f64>> = value.as_array().expect("a list of rows").iter().map(numbers).collect();
    Array2::from_shape_fn((rows.len(), rows[0].len()), |(row, column)| rows[row][column])
}

/// Counts what it compares, so that a test of nothing fails.
struct Comparison<'a> {
    case: &'a str,
    compared: usize,
    worst: f64,
}

impl Comparison<'_> {
    fn number(&mut self, what: &str, ours: f64, theirs: &Value) {
        let theirs = theirs.as_f64().unwrap_or_else(|| panic!("{}: {what} is no number", self.case));
        let difference = (ours / theirs - 1.0).abs();
        assert!(difference <= RELATIVE, "{}: {what} is {ours:e}, statsmodels says {theirs:e}", self.case);
        self.compared += 1;
        self.worst = self.worst.max(difference);
    }

    fn pair(&mut self, what: &str, ours: Option<(f64, f64)>, theirs: &Value) {
        let (low, high) = ours.unwrap_or_else(|| panic!("{}: no {what}", self.case));
        self.number(what, low, &theirs[0]);
        self.number(what, high, &theirs[1]);
    }

    /// Everything about one regression.
    fn regression(&mut self, x: &Array2<f64>, y: &Array1<f64>, weights: Option<&Array1<f64>>, theirs: &Value) {
        let level = 0.95;
        let ours = Summary::new(x, y, weights).expect("the columns are independent");
        for (k, coefficient) in ours.coefficients.iter().enumerate() {
            self.number("coefficient", coefficient.value, &theirs["coefficients"][k]);
            self.number("standard error", coefficient.standard_error, &theirs["standard_errors"][k]);
            self.number("t", coefficient.t, &theirs["t"][k]);
            self.number("p", coefficient.p.expect("t is a number"), &theirs["p"][k]);
            self.pair("interval", ours.interval(k, level), &theirs["intervals"][k]);
            for other in 0..ours.coefficients.len() {
                self.number("covariance", ours.covariance[[k, other]], &theirs["covariance"][k][other]);
            }
        }
        assert_eq!(ours.residual_df as u64, theirs["residual_df"].as_u64().expect("a count"));
        self.number("residual variance", ours.residual_variance, &theirs["residual_variance"]);
        self.number("centred R2", ours.r2_centred.expect("y varies"), &theirs["r2_centred"]);
        self.number("uncentred R2", ours.r2_uncentred.expect("y is not 0"), &theirs["r2_uncentred"]);
        let f = ours.f.expect("there is more than a constant");
        assert_eq!(f.numerator_df as u64, theirs["f_df"].as_u64().expect("a count"), "{}", self.case);
        self.number("F", f.f, &theirs["f"]);
        self.number("p of F", f.p.expect("F is a number"), &theirs["f_p"]);

        for prediction in theirs["predictions"].as_array().into_iter().flatten() {
            let at = Array1::from(numbers(&prediction["at"]));
            let weight = prediction["weight"].as_f64().expect("a weight");
            self.number("prediction", ours.predict(at.view()), &prediction["mean"]);
            self.pair("mean interval", ours.mean_interval(at.view(), level), &prediction["mean_interval"]);
            let of_one = ours.observation_interval(at.view(), weight, level);
            self.pair("observation interval", of_one, &prediction["observation_interval"]);
        }

        let names: Vec<&str> =
            theirs["names"].as_array().expect("names").iter().map(|name| name.as_str().expect("a name")).collect();
        let table = anova::type_2(x, y, &names, weights).expect("the regression could be computed");
        let rows = theirs["anova"].as_array().expect("a table");
        assert_eq!(table.terms.len(), rows.len());
        for (term, row) in table.terms.iter().zip(rows) {
            assert_eq!(term.name, row["name"].as_str().expect("a name"));
            self.number("sum of squares", term.sum_of_squares, &row["sum_of_squares"]);
            self.number("F of a term", term.test.f, &row["f"]);
            self.number("p of a term", term.test.p.expect("F is a number"), &row["p"]);
        }
    }
}

#[test]
fn regressions_equal_those_of_statsmodels() {
    let file = vectors("ols.json");
    let cases = file["cases"].as_array().expect("cases");
    assert!(cases.len() >= 7);
    for case in cases {
        let name = case["name"].as_str().expect("a name");
        let weights = case["weights"].is_array().then(|| Array1::from(numbers(&case["weights"])));
        let mut comparison = Comparison { case: name, compared: 0, worst: 0.0 };
        let (x, y) = (matrix(&case["x"]), Array1::from(numbers(&case["y"])));
        comparison.regression(&x, &y, weights.as_ref(), &case["expected"]);
        eprintln!("{name}: {} figures, largest difference {:.1e}", comparison.compared, comparison.worst);
        assert!(comparison.compared >= 30);
    }
}

/// Energy and runtime of each model on (i, o, i*o), with and without intercept.
#[test]
fn the_published_grid_is_analysed_as_statsmodels_does() {
    let Some(samples) = reference("energy/wilkins/grid_a100.csv").map(|path| grid(&path)) else { return };
    let file = vectors("wilkins.json");
    let cases = file["cases"].as_array().expect("cases");
    assert_eq!(cases.len(), 16);
    for case in cases {
        let (model, target) = (case["model"].as_str().expect("a name"), case["target"].as_str().expect("a name"));
        let names = case["expected"]["names"].as_array().expect("names");
        let rows: Vec<&Sample> =
            samples.iter().filter(|sample| !sample.warmup && sample.model.ends_with(&format!("/{model}"))).collect();
        assert_eq!(rows.len() as u64, case["rows"].as_u64().expect("a count"), "{model}");
        let x = Array2::from_shape_fn((rows.len(), names.len()), |(row, column)| {
            let (input, output) = (rows[row].tokens.input.expect("lengths are recorded"), rows[row].tokens.output);
            [1.0, input, output, input * output][column + 4 - names.len()]
        });
        let y = rows.iter().map(|sample| match target {
            "energy" => sample.gpu_energy.expect("energies are recorded").0,
            _ => sample.runtime.expect("runtimes are recorded").0,
        });
        let what = format!("{model}, {target}, {} columns", names.len());
        let mut comparison = Comparison { case: &what, compared: 0, worst: 0.0 };
        comparison.regression(&x, &y.collect(), None, &case["expected"]);
        eprintln!("{what}: {} figures, largest difference {:.1e}", comparison.compared, comparison.worst);
    }
}
