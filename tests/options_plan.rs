//! Plans from an options CSV: what the program says of them, what `check` finds, and every way in which one can lie.

use std::fs;
use std::path::Path;
use std::process::Output;

use assert_cmd::Command;
use jouleplan::check::{ClaimedOptionPlan, OptionRule, check_option_plan};
use jouleplan::formats::{options_csv, options_plan};
use jouleplan::report::claims::of_option_plan;
use serde_json::Value;

const TABLE: &str = "option,class_or_request,energy_j,seconds,pool,devices,capacity_s,requests\n\
                     small,chat,10,2,a100,2,30,12\nlarge,chat,14,1,a100,8,,\n\
                     small,batch,30,9,,,,3\nlarge,batch,33.5,4,,,,\nlarge,solo,5,1,,,,\n";

fn jouleplan(arguments: &[&str]) -> Output {
    Command::cargo_bin("jouleplan").unwrap().args(arguments).output().unwrap()
}

fn planned(folder: &Path, table: &str) -> (Output, String, String) {
    let (file, out) = (folder.join("o.csv"), folder.join("plan"));
    fs::write(&file, table).unwrap();
    let (file, out) = (file.to_str().unwrap().to_owned(), out.to_str().unwrap().to_owned());
    (jouleplan(&["plan", "--options", &file, "--out", &out, "--json"]), file, out)
}

#[test]
fn a_table_is_planned_to_its_optimum_and_checked() {
    let folder = tempfile::tempdir().unwrap();
    let (output, file, out) = planned(folder.path(), TABLE);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    // 30 s on `small`: a second saves 2 J with chat and 0.39 J with batch, so 12 chats (24 s) and no batch.
    assert_eq!(json["objective_j"], 12.0 * 10.0 + 3.0 * 33.5 + 5.0);
    assert_eq!((&json["status"], &json["requests"]), (&"optimal_within_gap".into(), &16.into()));
    assert!(json["gap"].as_f64().unwrap() <= 1e-3 && json["kind"] == "options");
    let assignments = fs::read_to_string(folder.path().join("plan/assignments.csv")).unwrap();
    assert!(assignments.contains("chat,small,12,120,24\n"), "{assignments}");
    assert!(fs::read_to_string(folder.path().join("plan/summary.csv")).unwrap().contains("jouleplan,225.5,"));

    let text = jouleplan(&["check", &out]);
    assert!(text.status.success() && String::from_utf8_lossy(&text.stdout).starts_with("valid: 16 requests"));
    let explained = jouleplan(&["explain", &out, "chat"]);
    assert!(String::from_utf8_lossy(&explained.stderr).contains("only `check` reads such a plan"));
    let edited = assignments.replace("chat,small,12,", "chat,small,11,");
    fs::write(folder.path().join("plan/assignments.csv"), edited).unwrap();
    let broken = jouleplan(&["check", &out, "--json"]);
    assert_eq!(broken.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&broken.stdout).contains("C-DROPPED"));
    fs::write(&file, TABLE.replace("10,2", "9,2")).unwrap();
    assert_eq!(jouleplan(&["check", &out]).status.code(), Some(65), "the table changed since");
}

#[test]
fn tables_without_a_plan_and_wrong_usage_have_their_exit_codes() {
    let folder = tempfile::tempdir().unwrap();
    let (short, ..) = planned(folder.path(), &TABLE.replace(",8,,", ",8,10,"));
    assert_eq!(short.status.code(), Some(3));
    let json: Value = serde_json::from_slice(&short.stdout).unwrap();
    assert!(json["status"] == "infeasible" && json["reason"].as_str().unwrap().contains("capacity"));
    let (bad, ..) = planned(folder.path(), "option,class_or_request,energy_j,seconds\na,r,-1,x\n");
    assert_eq!(bad.status.code(), Some(65));
    assert!(!folder.path().join("plan").exists());
    let (_, file, out) = planned(folder.path(), TABLE);
    let both = jouleplan(&["plan", "--options", &file, "--cluster", "c.toml", "--out", &out]);
    assert_eq!(both.status.code(), Some(2));
}

/// A lie, and the rule that must see it.
type Lie = (OptionRule, fn(&mut ClaimedOptionPlan));

#[test]
fn every_planted_violation_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let tight = TABLE.replace("a100,2,30,", "a100,2,23,");
    let (_, file, out) = planned(folder.path(), &tight);
    let table = options_csv::read(Path::new(&file)).unwrap();
    let (plan, rows) = options_plan::read(Path::new(&out)).unwrap();
    let claims = of_option_plan(&plan, &rows);
    let sound = check_option_plan(&table, &claims);
    assert!(sound.is_valid(), "{:?}", sound.violations);
    assert!(claims.options[0].price > 0.0, "the capacity binds: {claims:?}");

    let lies: &[Lie] = &[
        (OptionRule::Unknown, |plan| plan.rows[0].class = "none".into()),
        (OptionRule::Unknown, |plan| plan.rows[0].option = "none".into()),
        (OptionRule::Unknown, |plan| {
            let solo = plan.rows.iter_mut().find(|row| row.class == "solo").unwrap();
            solo.option = "small".into();
        }),
        (OptionRule::Unknown, |plan| plan.options.truncate(1)),
        (OptionRule::Unknown, |plan| plan.options[1] = plan.options[0].clone()),
        (OptionRule::Dropped, |plan| drop(plan.rows.pop())),
        (OptionRule::Dropped, |plan| plan.rows[0].requests -= 1),
        (OptionRule::Doubled, |plan| plan.rows.push(plan.rows[0].clone())),
        (OptionRule::Count, |plan| plan.requests += 1),
        (OptionRule::Count, |plan| plan.options[0].requests += 1),
        (OptionRule::Capacity, |plan| {
            for row in plan.rows.iter_mut().filter(|row| row.class == "chat") {
                row.option = "small".into();
            }
        }),
        (OptionRule::Figures, |plan| plan.rows[0].energy *= 1.01),
        (OptionRule::Figures, |plan| plan.rows[0].busy = f64::NAN),
        (OptionRule::Figures, |plan| plan.options[0].energy *= 0.99),
        (OptionRule::Figures, |plan| plan.options[0].busy += 1.0),
        (OptionRule::Figures, |plan| plan.options[0].capacity = None),
        (OptionRule::Objective, |plan| plan.objective *= 0.999),
        (OptionRule::Objective, |plan| plan.objective = f64::NAN),
        (OptionRule::Prices, |plan| plan.options[0].price = -1.0),
        (OptionRule::Prices, |plan| plan.options[0].price *= 1.5),
        (OptionRule::Prices, |plan| plan.options[0].price = f64::INFINITY),
        (OptionRule::Prices, |plan| plan.options[1].price = 1.0),
        (OptionRule::Prices, |plan| plan.price_bound += 1.0),
        (OptionRule::Bound, |plan| plan.bound = plan.objective * 1.01),
        (OptionRule::Bound, |plan| plan.bound = plan.price_bound * 0.99),
        (OptionRule::Bound, |plan| plan.bound = f64::NAN),
        (OptionRule::Gap, |plan| plan.gap += 1e-4),
        (OptionRule::Gap, |plan| plan.gap_parts += 1e-4),
    ];
    for (index, (rule, lie)) in lies.iter().enumerate() {
        let mut lying = claims.clone();
        lie(&mut lying);
        let found = check_option_plan(&table, &lying).violations;
        assert!(found.iter().any(|found| found.rule == *rule), "lie {index}: wanted {rule:?}, got {found:?}");
    }
    for rule in OptionRule::ALL {
        assert!(lies.iter().any(|(aimed, _)| *aimed == rule), "no lie aims at {rule:?}");
    }
}
