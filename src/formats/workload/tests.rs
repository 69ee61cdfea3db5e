//! Formats are told apart, and files read in blocks side by side say exactly what they say row by row.

use std::fs;

use proptest::prelude::*;

use super::own_ids::{Kept, OwnIds, StoredIds};
use super::rows::{Reading, Rows};
use super::tokens::{Sidecar, TokenCounter};
use super::*;

#[test]
fn words_for_formats_and_policies_read_back() {
    for format in Format::ALL {
        assert_eq!(format.as_str().parse(), Ok(format));
    }
    assert_eq!("map".parse(), Ok(ModelPolicy::Map));
    assert!("CSV".parse::<Format>().is_err() && "".parse::<ModelPolicy>().is_err());
}

#[test]
fn formats_are_told_by_their_first_line() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    let detected = |text: &str| {
        std::fs::write(&path, text).unwrap();
        detect(&path)
    };
    assert_eq!(detected("\u{feff}input_tokens, output_tokens\r\n").unwrap(), Format::Csv);
    assert_eq!(detected("count,output_tokens,input_tokens\n").unwrap(), Format::ClassTable);
    assert_eq!(detected("TIMESTAMP,ContextTokens,GeneratedTokens\n").unwrap(), Format::Azure);
    assert_eq!(detected("\n {\"custom_id\": 1}\n").unwrap(), Format::OpenaiBatch);
    for bad in ["", "\n\n", "[{}]", "a,b\n1,2\n"] {
        assert!(detected(bad).is_err(), "{bad:?}");
    }
}

/// Cells and whole lines that have made readers stumble.
fn csv_row() -> impl Strategy<Value = String> {
    let whole =
        prop_oneof![20 => (1u32..9999).prop_map(|n| n.to_string()), 1 => Just(String::new()), 1 => Just("x".into())];
    let id = prop_oneof![
        12 => "[a-z]{1,6}",
        2 => Just("\"a,b\"".to_owned()),
        1 => Just("\"a\nb\"".to_owned()),
        1 => Just("\"a\"\"\r\n\r\nb\"".to_owned()),
        1 => Just("a\"b".to_owned()),
        1 => Just("\u{feff}c".to_owned()),
        1 => Just("\"open".to_owned()),
    ];
    let job = prop_oneof![Just("j1"), Just("j2"), Just(""), Just("\"j 3\"")];
    let row = (id, whole.clone(), whole, job).prop_map(|(id, i, o, job)| format!("{id},{i},{o},{job}"));
    prop_oneof![20 => row, 1 => Just(String::new()), 1 => Just(" ".into()), 1 => Just("1,2".into())]
}

fn csv_text(row: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
    let end = prop_oneof![3 => Just("\n"), 1 => Just("\r\n")];
    let head = prop_oneof![Just(""), Just("\u{feff}"), Just("\n")];
    (head, prop::collection::vec((row, end), 0..40), any::<bool>()).prop_map(|(head, rows, ended)| {
        let rows: String = rows.into_iter().map(|(row, end)| row + end).collect();
        let text = format!("{head}request_id,input_tokens,output_tokens,job\n{rows}");
        if ended { text } else { text.trim_end_matches('\n').to_owned() }
    })
}

/// Rows without trouble, of which blocks are really taken.
fn sound_row() -> impl Strategy<Value = String> {
    let id = prop_oneof![5 => "[a-z]{1,9}", 1 => Just("\"a,b\"".to_owned()), 1 => Just(" c ".to_owned())];
    (id, 0u32..9, 1u32..9999, 0u32..3).prop_map(|(id, i, o, job)| format!("{id},{i},{o},j{job}"))
}

fn names(ids: &OwnIds, path: &Path, layout: &own_ids::Layout) -> Vec<String> {
    match &ids.kept {
        Kept::Held(names) => names.iter().map(str::to_owned).collect(),
        Kept::Stored(places) => {
            let stored = StoredIds::new(path, layout.clone(), places.clone());
            let mut all = Vec::new();
            stored.visit(0..ids.hashes.len(), &mut |_, id| all.push(id.to_owned())).unwrap();
            let one = |index| {
                let mut found = None;
                stored.visit(index..index + 1, &mut |at, id| found = Some((at, id.to_owned()))).unwrap();
                found.unwrap()
            };
            assert!((0..all.len()).step_by(1 + all.len() / 40).all(|index| one(index) == (index, all[index].clone())));
            all
        }
    }
}

fn agree(text: &str, block_bytes: usize, read: impl Fn(&Path, Reading) -> Result<(Rows, own_ids::Layout), Problems>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w");
    fs::write(&path, text).unwrap();
    let by_row = read(&path, Reading { block_bytes: 0, held_bytes: u64::MAX });
    let in_blocks = read(&path, Reading { block_bytes, held_bytes: 0 });
    match (by_row, in_blocks) {
        (Ok((a, layout)), Ok((b, _))) => {
            assert_eq!((&a.input_tokens, &a.output_tokens, &a.key), (&b.input_tokens, &b.output_tokens, &b.key));
            assert_eq!((&a.keys, a.bounded, a.counted, &a.warnings), (&b.keys, b.bounded, b.counted, &b.warnings));
            assert_eq!((a.input_provenance, a.output_provenance), (b.input_provenance, b.output_provenance));
            let (a, b) = (a.ids.unwrap(), b.ids.unwrap());
            assert_eq!(a.hashes, b.hashes);
            assert!(a.hashes.is_empty() || matches!((&a.kept, &b.kept), (Kept::Held(_), Kept::Stored(_))));
            assert_eq!(names(&a, &path, &layout), names(&b, &path, &layout));
        }
        (Err(Problems::BadData(a)), Err(Problems::BadData(b))) => assert_eq!(a, b),
        (a, b) => panic!("{a:?} against {b:?}"),
    }
}

fn csv_agrees(text: &str, block_bytes: usize) {
    agree(text, block_bytes, |path, reading| csv::read(path, reading).map(|(rows, layout)| (rows, layout.unwrap())));
}

proptest! {
    #[test]
    fn csv_in_blocks_is_csv_row_by_row(text in csv_text(csv_row()), block_bytes in 1usize..80) {
        csv_agrees(&text, block_bytes);
    }

    #[test]
    fn sound_csv_in_blocks_is_csv_row_by_row(text in csv_text(sound_row()), block_bytes in 1usize..80) {
        csv_agrees(&text, block_bytes);
    }

    #[test]
    fn batch_lines_in_blocks_are_those_read_one_by_one(
        lines in prop::collection::vec((0usize..7, "[a-z\"\\\\é]{1,5}", any::<bool>()), 0..30),
        block_bytes in 1usize..200,
    ) {
        let line = |(kind, id, crlf): &(usize, String, bool)| {
            let id = serde_json::Value::from(id.as_str());
            let text = match kind {
                0 => String::new(),
                1 => format!("{{\"custom_id\":{id},\"custom_id\":{id},\"body\":{{\"prompt\":\"abc\",\"max_tokens\":3}}}}"),
                _ => format!("{{\"body\":{{\"prompt\":\"abcdef\",\"max_tokens\":{kind}}},\"custom_id\":{id}}}"),
            };
            text + if *crlf { "\r\n" } else { "\n" }
        };
        let mut text: String = lines.iter().map(line).collect();
        for broken in [false, true] {
            if broken {
                let middle = (0..=text.len() / 2).rev().find(|at| text.is_char_boundary(*at)).unwrap();
                text.insert(middle, '{');
            }
            agree(&text, block_bytes, |path, reading| {
                let rows = openai_batch::read(path, &TokenCounter::Characters, &Sidecar::new(), reading)?;
                Ok((rows, own_ids::Layout::OpenaiBatch))
            });
        }
    }
}

#[test]
fn many_rows_span_blocks_and_places() {
    let text: String =
        (0..20_000).map(|k| format!("{},{},{},j{}\n", format_args!("id{k}"), k % 50, 7, k % 3)).collect();
    let text = format!("request_id,input_tokens,output_tokens,job\n{text}");
    csv_agrees(&text, 1 << 15);
    csv_agrees(&(text + "\"q\n\",1,1,\nlast,1,1,"), 1 << 15);
}

#[test]
fn ids_of_a_file_that_changed_are_not_given() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("w.csv");
    fs::write(&path, "request_id,input_tokens,output_tokens\na,1,1\nb,1,1\n").unwrap();
    let (rows, layout) = csv::read(&path, Reading { block_bytes: 8, held_bytes: 0 }).unwrap();
    let Some(OwnIds { kept: Kept::Stored(places), .. }) = rows.ids else { panic!("held") };
    let stored = StoredIds::new(&path, layout.unwrap(), places);
    assert!(stored.visit(1..2, &mut |_, id| assert_eq!(id, "b")).is_ok());
    fs::write(&path, "request_id,input_tokens,output_tokens\na,1,1\n").unwrap();
    assert!(stored.visit(1..2, &mut |_, _| ()).unwrap_err().to_string().contains("changed"));
    fs::remove_file(&path).unwrap();
    assert!(stored.visit(1..2, &mut |_, _| ()).is_err());
}
