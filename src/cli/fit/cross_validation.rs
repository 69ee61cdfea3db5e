//! `fit --cv`: errors on what the fit has not seen, as a table and as JSON.

use clap::ValueEnum;
use serde_json::{Value, json};

use crate::fit::cross_validate::{Case, Errors, FamilyErrors, Mode, pooled};
use crate::report::text::{Table, percent};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Cv {
    /// Folds of each family's samples
    Kfold,
    /// Each batch cap between a family's smallest and largest
    LeaveBatchOut,
    /// Each family, estimated from the others as by --transfer
    LeaveFamilyOut,
}

impl From<Cv> for Mode {
    fn from(cv: Cv) -> Self {
        match cv {
            Cv::Kfold => Self::KFold,
            Cv::LeaveBatchOut => Self::LeaveBatchOut,
            Cv::LeaveFamilyOut => Self::LeaveFamilyOut,
        }
    }
}

/// A row a family, then median and 90th percentile of each case.
pub fn table(families: &[FamilyErrors]) -> String {
    let mut table = Table::new(&["family", "left out", ">energy", ">energy covered", ">runtime", ">runtime covered"]);
    let share = |figure: Option<f64>| figure.map_or("-".to_owned(), percent);
    let mut row = |name: String, case: Case, [energy, runtime]: [Option<f64>; 2], covered: [Option<f64>; 2]| {
        table.row([
            name,
            case.as_str().to_owned(),
            share(energy),
            share(covered[0]),
            share(runtime),
            share(covered[1]),
        ]);
    };
    for family in families {
        let covered = [family.energy.coverage, family.runtime.coverage];
        row(family.family.to_string(), family.case, [family.energy.mape(), family.runtime.mape()], covered);
    }
    for case in cases(families) {
        let (energy, runtime) = (pooled(families, case, |f| &f.energy), pooled(families, case, |f| &f.runtime));
        row("median".to_owned(), case, [energy.median(), runtime.median()], [energy.coverage, runtime.coverage]);
        row("90th percentile".to_owned(), case, [energy.p90(), runtime.p90()], [None, None]);
    }
    table.render(0)
}

pub fn to_json(mode: Mode, families: &[FamilyErrors]) -> Value {
    let rows: Vec<Value> = families
        .iter()
        .map(|family| {
            json!({
                "family": family.family.to_string(),
                "left_out": family.case.as_str(),
                "energy_mape": family.energy.mape(),
                "runtime_mape": family.runtime.mape(),
                "energy_coverage_90": family.energy.coverage,
                "runtime_coverage_90": family.runtime.coverage,
            })
        })
        .collect();
    let summary = |errors: &Errors| json!({"n": errors.errors.len(), "median": errors.median(), "p90": errors.p90(), "coverage_90": errors.coverage});
    let summaries: Vec<Value> = cases(families)
        .into_iter()
        .map(|case| {
            json!({
                "left_out": case.as_str(),
                "energy": summary(&pooled(families, case, |family| &family.energy)),
                "runtime": summary(&pooled(families, case, |family| &family.runtime)),
            })
        })
        .collect();
    let name = match mode {
        Mode::KFold => "kfold",
        Mode::LeaveBatchOut => "leave-batch-out",
        Mode::LeaveFamilyOut => "leave-family-out",
    };
    json!({"mode": name, "families": rows, "summary": summaries})
}

fn cases(families: &[FamilyErrors]) -> Vec<Case> {
    let mut cases: Vec<Case> = families.iter().map(|family| family.case).collect();
    cases.sort_unstable();
    cases.dedup();
    cases
}
