//! The case study of `make case-study` keeps running, and says what it is there to say.

#[path = "../examples/case_study/main.rs"]
mod case_study;

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

type Row = BTreeMap<String, String>;

fn rows(path: &std::path::Path) -> Vec<Row> {
    csv::Reader::from_path(path).unwrap().deserialize().map(Result::unwrap).collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}

#[test]
fn it_runs_and_its_optima_are_optima() {
    let folder = tempfile::tempdir().unwrap();
    let summary = case_study::write(folder.path(), &[200], Duration::from_secs(3)).unwrap();
    assert!(summary.contains("per_request") && summary.contains("one H100 node"), "{summary}");
    assert!(fs::read_to_string(folder.path().join("strategies.svg")).unwrap().starts_with("<svg"));

    let strategies = rows(&folder.path().join("strategies.csv"));
    let of = |name: &str| -> Vec<&Row> { strategies.iter().filter(|row| row["strategy"] == name).collect() };
    let (ours, code) = (of("per_request"), of("paper_code"));
    assert_eq!((ours.len(), code.len()), (11, 11));
    for (ours, code) in ours.iter().zip(&code) {
        assert!(number(ours, "objective") <= number(code, "objective") + 1e-9, "{ours:?} {code:?}");
    }
    // More weight on energy: less of it, by the model that is optimised, and less accuracy.
    for pair in ours.windows(2) {
        assert!(number(pair[1], "energy_bilinear_j") <= number(pair[0], "energy_bilinear_j") + 1e-6);
        assert!(number(pair[1], "accuracy") <= number(pair[0], "accuracy") + 1e-9);
    }
    // A quarter of 1, 1, 4 and 3 GPUs of 9.
    for row in ours {
        for (model, least) in [
            ("meta-llama/Llama-2-7b-chat-hf", 6.0),
            ("mistralai/Mistral-7B-v0.1", 6.0),
            ("meta-llama/Llama-2-70b-chat-hf", 23.0),
            ("mistralai/Mixtral-8x7B-v0.1", 17.0),
        ] {
            assert!(number(row, model) >= least, "{model}: {row:?}");
        }
    }

    let steps = rows(&folder.path().join("steps.csv"));
    assert_eq!(steps.len(), 6);
    let (small, any, like_small, like_any, soon) = (&steps[0], &steps[1], &steps[2], &steps[3], &steps[4]);
    // What the paper's problem counts is not what its optimum costs, and a plan of the same accuracy costs less.
    for (paper, ours) in [(small, like_small), (any, like_any)] {
        assert!(number(paper, "formulation_j") < 0.8 * number(paper, "objective_j"), "{paper:?}");
        assert!(number(ours, "objective_j") < number(paper, "objective_j"), "{ours:?} {paper:?}");
        assert!(number(ours, "accuracy") >= number(paper, "accuracy") - 1e-5);
    }
    assert!(number(any, "formulation_j") < number(small, "formulation_j"));
    assert!(number(soon, "finish_s") < number(like_any, "finish_s"));
    assert!(number(soon, "objective_j") >= number(like_any, "objective_j") * (1.0 - number(like_any, "gap")));
}
