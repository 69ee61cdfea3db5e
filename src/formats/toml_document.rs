//! TOML read key by key, every defect noted with its line.
//!
//! Serde stops at the first defect and, once it has deserialised, no longer knows where a value stood. Here a reader asks
//! for the keys it knows; whatever is left is an unknown key. Values come back as `None` where absent or wrong, and the
//! reader goes on.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problems::{Collector, Problems};
use super::table::{MAX_PROBLEMS, range};

/// Parses `text` and hands its root to `read`; `path` only names it in messages.
///
/// # Errors
/// All syntax errors, or else everything `read` noted.
pub fn read_document<T>(path: &Path, text: &str, read: impl FnOnce(&mut Section) -> T) -> Result<T, Problems> {
    let mut problems = Collector::new(path);
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in &errors {
        let (line, column) = position(text, error.span().map_or(0, |span| span.start));
        problems.add(format!("line {line}, column {column}"), error.message(), "correct the TOML syntax there");
    }
    if !errors.is_empty() {
        return problems.fail();
    }
    let source = Source { text, problems: RefCell::new(problems) };
    let mut section =
        Section { table: root.get_ref(), start: 0, name: String::new(), source: &source, asked: BTreeSet::new() };
    let value = read(&mut section);
    section.note_unknown_keys();
    drop(section);
    source.problems.into_inner().finish(value)
}

struct Source<'a> {
    text: &'a str,
    problems: RefCell<Collector>,
}

/// A table of the document. Call `note_unknown_keys` when all keys were asked for (the root's is called for you).
pub struct Section<'a> {
    table: &'a DeTable<'a>,
    start: usize,
    /// Path of keys, `pool[2]`.
    name: String,
    source: &'a Source<'a>,
    asked: BTreeSet<&'static str>,
}

impl<'a> Section<'a> {
    /// 1-based line of the table.
    pub fn line(&self) -> usize {
        position(self.source.text, self.start).0
    }

    pub fn has(&self, key: &str) -> bool {
        self.table.contains_key(key)
    }

    /// Notes a defect of a key, or of the table where the key is absent.
    pub fn problem(&self, key: &str, what: impl Into<String>, remedy: impl Into<String>) {
        let at = self.table.get(key).map_or(self.start, |value| value.span().start);
        self.note(at, &self.path(key), what, remedy);
    }

    /// Notes a missing key.
    pub fn require(&mut self, key: &'static str, remedy: &str) {
        self.asked.insert(key);
        if !self.has(key) {
            self.problem(key, format!("`{key}` is missing"), remedy);
        }
    }

    /// Notes a key that must not be there.
    pub fn require_absent(&mut self, key: &'static str, what: &str, remedy: &str) {
        if self.has(key) {
            self.asked.insert(key);
            self.problem(key, what, remedy);
        }
    }

    /// Text that is not empty and has no control characters (it may reach a script or a table).
    pub fn text(&mut self, key: &'static str) -> Option<String> {
        let value = self.value(key)?;
        self.checked_text(key, value)
    }

    /// What `parse` makes of a text (or of a bare TOML date).
    pub fn parsed<T, E: Display>(&mut self, key: &'static str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let value = self.value(key)?;
        let text = match value.get_ref() {
            DeValue::Datetime(instant) => instant.to_string(),
            _ => self.checked_text(key, value)?,
        };
        parse(&text).map_err(|error| self.note(value.span().start, &self.path(key), error.to_string(), "")).ok()
    }

    /// One of the given words.
    pub fn one_of<T: Copy>(&mut self, key: &'static str, options: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = options.iter().find(|(word, _)| *word == text).map(|(_, meaning)| *meaning);
        if found.is_none() {
            let words: Vec<&str> = options.iter().map(|(word, _)| *word).collect();
            self.problem(key, format!("`{text}` is not known here"), format!("write one of: {}", words.join(", ")));
        }
        found
    }

    /// A list of texts, possibly empty.
    pub fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let items = self.value(key).and_then(|value| self.array(key, value))?;
        let texts: Vec<String> = items.iter().filter_map(|item| self.checked_text(key, item)).collect();
        (texts.len() == items.len()).then_some(texts)
    }

    /// A list of texts handed on as they are, blanks included: the words of a command line.
    pub fn words(&mut self, key: &'static str) -> Option<Vec<String>> {
        let items = self.value(key).and_then(|value| self.array(key, value))?;
        let words: Vec<String> = items.iter().filter_map(|item| self.checked_word(key, item)).collect();
        (words.len() == items.len()).then_some(words)
    }

    /// A finite number in `low..=high`.
    pub fn number(&mut self, key: &'static str, low: f64, high: f64) -> Option<f64> {
        let value = self.value(key)?;
        let parsed = match value.get_ref() {
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            other => {
                let what = format!("a {} where a number belongs", other.type_str());
                self.note(value.span().start, &self.path(key), what, range(low, high));
                return None;
            }
        };
        let inside = parsed.filter(|number| (low..=high).contains(number));
        if inside.is_none() {
            let written = &self.source.text[value.span()];
            self.note(value.span().start, &self.path(key), format!("{written} is out of range"), range(low, high));
        }
        inside
    }

    /// A whole number in `low..=high`.
    pub fn whole(&mut self, key: &'static str, low: u32, high: u32) -> Option<u32> {
        let value = self.value(key)?;
        self.checked_whole(key, value, low, high)
    }

    pub fn flag(&mut self, key: &'static str) -> Option<bool> {
        let value = self.value(key)?;
        let flag = value.get_ref().as_bool();
        if flag.is_none() {
            let what = format!("a {} where true or false belongs", value.get_ref().type_str());
            self.note(value.span().start, &self.path(key), what, "write true or false without quotes");
        }
        flag
    }

    /// A table under a key.
    pub fn section(&mut self, key: &'static str) -> Option<Section<'a>> {
        let value = self.value(key)?;
        match value.get_ref().as_table() {
            Some(table) => Some(self.inner(table, value.span().start, self.path(key))),
            None => {
                let what = format!("a {} where a table belongs", value.get_ref().type_str());
                self.note(value.span().start, &self.path(key), what, format!("write `[{key}]`"));
                None
            }
        }
    }

    /// The tables of `[[key]]`, in order.
    pub fn sections(&mut self, key: &'static str) -> Vec<Section<'a>> {
        let Some(value) = self.value(key) else { return Vec::new() };
        let tables = value.get_ref().as_array().map(|items| items.iter().map(|item| (item, item.get_ref().as_table())));
        let mut sections = Vec::new();
        let remedy = format!("write `[[{key}]]`");
        let Some(tables) = tables else {
            let what = format!("a {} where a list of tables belongs", value.get_ref().type_str());
            self.note(value.span().start, &self.path(key), what, remedy);
            return sections;
        };
        for (index, (item, table)) in tables.enumerate() {
            match table {
                Some(table) => sections.push(self.inner(table, item.span().start, format!("{key}[{}]", index + 1))),
                None => self.note(item.span().start, &format!("{key}[{}]", index + 1), "not a table", remedy.clone()),
            }
        }
        sections
    }

    /// The keys of a table whose keys are names (of hosts, of models), each with a list of texts.
    pub fn named_texts(&mut self) -> Vec<(String, Vec<String>)> {
        self.named(|section, key, item| section.checked_text(key, item))
    }

    /// The keys of a table whose keys are names, each with a list of whole numbers in `0..=high`.
    pub fn named_wholes(&mut self, high: u32) -> Vec<(String, Vec<u32>)> {
        self.named(|section, key, item| section.checked_whole(key, item, 0, high))
    }

    /// The keys of a table whose keys are names (of variables), each with a text handed on as it is.
    pub fn named_words(&mut self) -> Vec<(String, String)> {
        let name = |key: &Spanned<std::borrow::Cow<'a, str>>| key.get_ref().to_string();
        self.table
            .iter()
            .filter_map(|(key, value)| Some((name(key), self.checked_word(key.get_ref(), value)?)))
            .collect()
    }

    /// Notes every key that was never asked for.
    pub fn note_unknown_keys(&mut self) {
        let known: Vec<&str> = self.asked.iter().copied().collect();
        for (key, _) in self.table.iter().filter(|(key, _)| !self.asked.contains(key.get_ref().as_ref())) {
            let remedy = format!("known here: {}", known.join(", "));
            self.note(key.span().start, &self.path(key.get_ref()), format!("unknown key `{}`", key.get_ref()), remedy);
        }
    }

    fn named<T>(&self, read: impl Fn(&Self, &str, &Spanned<DeValue<'a>>) -> Option<T>) -> Vec<(String, Vec<T>)> {
        let mut named = Vec::new();
        for (key, value) in self.table {
            let key = key.get_ref().as_ref();
            if let Some(items) = self.array(key, value) {
                named.push((key.to_owned(), items.iter().filter_map(|item| read(self, key, item)).collect()));
            }
        }
        named
    }

    fn inner(&self, table: &'a DeTable<'a>, start: usize, name: String) -> Section<'a> {
        Section { table, start, name, source: self.source, asked: BTreeSet::new() }
    }

    fn value(&mut self, key: &'static str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.asked.insert(key);
        self.table.get(key)
    }

    fn array(&self, key: &str, value: &'a Spanned<DeValue<'a>>) -> Option<&'a [Spanned<DeValue<'a>>]> {
        let items = value.get_ref().as_array();
        if items.is_none() {
            let what = format!("a {} where a list belongs", value.get_ref().type_str());
            self.note(value.span().start, &self.path(key), what, "write it in square brackets");
        }
        items.map(|items| &items[..])
    }

    fn checked_text(&self, key: &str, value: &Spanned<DeValue>) -> Option<String> {
        let problem = match value.get_ref() {
            DeValue::String(text) if text.trim().is_empty() => "the text is empty".to_owned(),
            DeValue::String(text) if text.contains(char::is_control) => "the text holds control characters".to_owned(),
            DeValue::String(text) => return Some(text.trim().to_owned()),
            other => format!("a {} where text belongs", other.type_str()),
        };
        self.note(value.span().start, &self.path(key), problem, "write one line of text in quotes");
        None
    }

    fn checked_word(&self, key: &str, value: &Spanned<DeValue>) -> Option<String> {
        let (what, remedy) = match value.get_ref() {
            DeValue::String(text) if text.contains(['\0', '\n', '\r']) => {
                ("the text holds a line break".to_owned(), "write it on one line")
            }
            DeValue::String(text) => return Some(text.to_string()),
            other => (format!("a {} where text belongs", other.type_str()), "write it in quotes"),
        };
        self.note(value.span().start, &self.path(key), what, remedy);
        None
    }

    fn checked_whole(&self, key: &str, value: &Spanned<DeValue>, low: u32, high: u32) -> Option<u32> {
        let integer = value.get_ref().as_integer().filter(|integer| integer.radix() == 10);
        let whole = integer.and_then(|integer| integer.as_str().parse().ok()).filter(|n| (low..=high).contains(n));
        if whole.is_none() {
            let written = &self.source.text[value.span()];
            let remedy = format!("give a whole number from {low} to {high}");
            self.note(value.span().start, &self.path(key), format!("{written} does not fit here"), remedy);
        }
        whole
    }

    fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    fn note(&self, at: usize, path: &str, what: impl Into<String>, remedy: impl Into<String>) {
        if self.source.problems.borrow().len() >= MAX_PROBLEMS {
            return;
        }
        let (line, column) = position(self.source.text, at);
        self.source.problems.borrow_mut().add(format!("line {line}, column {column} ({path})"), what, remedy);
    }
}

/// 1-based line and column (in characters) of a byte.
pub(super) fn position(text: &str, byte: usize) -> (usize, usize) {
    let before = text.get(..byte).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    (1 + before.matches('\n').count(), 1 + before[line_start..].chars().count())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages(text: &str, read: impl FnOnce(&mut Section)) -> Vec<String> {
        match read_document(Path::new("d.toml"), text, read) {
            Ok(()) => Vec::new(),
            Err(problems) => problems.to_string().lines().map(str::to_owned).collect(),
        }
    }

    #[test]
    fn every_defect_is_named_with_its_line_and_path() {
        let text = "a = 1\n[[pool]]\nname = \"\"\nwatts = nan\n[[pool]]\ncount = 0\nnmae = \"x\"\nok = 1\n";
        let found = messages(text, |root| {
            root.number("a", 2.0, 3.0);
            for mut pool in root.sections("pool") {
                pool.require("name", "name it");
                pool.text("name");
                pool.number("watts", 0.0, 1e6);
                pool.whole("count", 1, 9);
                pool.flag("ok");
                pool.note_unknown_keys();
            }
        });
        assert_eq!(found.len(), 7, "{found:#?}");
        assert!(found[0].starts_with("d.toml: line 1, column 5 (a): 1 is out of range"));
        assert!(found[1].starts_with("d.toml: line 3, column 8 (pool[1].name): the text is empty"));
        assert!(found[2].contains("line 4, column 9 (pool[1].watts): nan is out of range"));
        assert!(found[3].contains("line 5, column 1 (pool[2].name): `name` is missing; name it"), "{}", found[3]);
        assert!(found[4].contains("line 6, column 9 (pool[2].count)"));
        assert!(found[5].contains("line 8") && found[5].contains("true or false"));
        assert!(found[6].contains("line 7, column 1 (pool[2].nmae): unknown key"));
    }

    #[test]
    fn syntax_errors_come_first_and_alone() {
        let found = messages("a = \nb = 2\nb = 3\n", |_| {});
        assert!(found.iter().all(|line| line.contains("TOML syntax")), "{found:?}");
        assert!(found[0].starts_with("d.toml: line 1"));
        assert!(!messages(&format!("a = {}", "[".repeat(50_000)), |_| {}).is_empty());
    }
}
