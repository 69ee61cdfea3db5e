//! Figures and tables as people read them. Columns are padded with blanks; numbers keep three or four digits.

/// `1.234 MJ`
pub fn energy(joules: f64) -> String {
    scaled(joules, &[(1e9, "GJ"), (1e6, "MJ"), (1e3, "kJ"), (1.0, "J")])
}

/// An amount of what is minimised, in the unit plan.json gives it in.
pub fn amount(value: f64, unit: &str) -> String {
    match unit {
        "gCO2" => scaled(value, &[(1e6, "t CO2"), (1e3, "kg CO2"), (1.0, "g CO2")]),
        "J" => energy(value),
        "zeta" => format!("{value:.6} zeta"),
        _ => format!("{value:.4} {}", plain(unit)),
    }
}

/// `1 h 02 min`, `12.3 s`
pub fn time(seconds: f64) -> String {
    if seconds.is_finite() && seconds >= 3600.0 {
        let minutes = (seconds / 60.0).round();
        return format!("{:.0} h {:02.0} min", (minutes / 60.0).floor(), minutes % 60.0);
    }
    if seconds >= 60.0 { format!("{:.1} min", seconds / 60.0) } else { format!("{seconds:.3} s") }
}

/// `1.23 %` of a fraction.
pub fn percent(fraction: f64) -> String {
    let digits = if fraction != 0.0 && fraction.abs() < 0.001 { 4 } else { 2 };
    format!("{} %", rounded(100.0 * fraction, digits))
}

/// Without the sign of what rounds to zero.
fn rounded(value: f64, digits: usize) -> String {
    let text = format!("{value:.digits$}");
    match text.strip_prefix('-') {
        Some(zero) if zero.chars().all(|c| "0.".contains(c)) => zero.to_owned(),
        _ => text,
    }
}

fn scaled(value: f64, units: &[(f64, &str)]) -> String {
    let (size, unit) = units.iter().find(|(size, _)| value.abs() >= *size).or(units.last()).unwrap_or(&(1.0, ""));
    let value = value / size;
    let digits = if value.abs() >= 100.0 { 1 } else { 3 };
    format!("{} {unit}", rounded(value, digits))
}

/// `1 request`, `2 requests`, `2 families`, `2 arrays`
pub fn count(number: u64, name: &str) -> String {
    let after_consonant = |stem: &&str| !stem.ends_with(['a', 'e', 'o', 'u']);
    match (number, name.strip_suffix('y').filter(after_consonant)) {
        (1, _) => format!("1 {name}"),
        (_, Some(stem)) => format!("{number} {stem}ies"),
        _ => format!("{number} {name}s"),
    }
}

/// Text that a terminal shows and never obeys: control characters are written out.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// Rows of cells, aligned. Columns whose name starts with `>` are aligned right.
#[derive(Clone, Debug)]
pub struct Table {
    rows: Vec<Vec<String>>,
    right: Vec<bool>,
}

impl Table {
    pub fn new(header: &[&str]) -> Self {
        let right = header.iter().map(|name| name.starts_with('>')).collect();
        let names = header.iter().map(|name| name.trim_start_matches('>').to_owned()).collect();
        Self { rows: vec![names], right }
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().map(|cell| plain(&cell)).collect());
    }

    /// The table, each line behind `indent` blanks and with a newline.
    pub fn render(&self, indent: usize) -> String {
        let widths: Vec<usize> = (0..self.right.len())
            .map(|column| {
                self.rows.iter().filter_map(|row| row.get(column)).map(|c| c.chars().count()).max().unwrap_or(0)
            })
            .collect();
        let mut text = String::new();
        for row in &self.rows {
            let cells = row.iter().zip(&widths).zip(&self.right).map(|((cell, width), right)| {
                let blanks = " ".repeat(width.saturating_sub(cell.chars().count()));
                if *right { blanks + cell } else { cell.clone() + &blanks }
            });
            let line = " ".repeat(indent) + &cells.collect::<Vec<_>>().join("  ");
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_as_people_write_them() {
        assert_eq!(energy(1_234_000.0), "1.234 MJ");
        assert_eq!((energy(0.0), energy(-0.0), energy(-1e-9)), ("0.000 J".into(), "0.000 J".into(), "0.000 J".into()));
        assert_eq!(
            (energy(-0.5), percent(-0.0), percent(-1e-9)),
            ("-0.500 J".into(), "0.00 %".into(), "0.0000 %".into())
        );
        assert_eq!((count(1, "request"), count(0, "request")), ("1 request".into(), "0 requests".into()));
        assert_eq!((count(2, "family"), count(2, "job array")), ("2 families".into(), "2 job arrays".into()));
        assert_eq!(time(3599.99), "60.0 min");
        assert_eq!(time(3660.0), "1 h 01 min");
        assert_eq!(percent(0.0123), "1.23 %");
        assert_eq!(percent(0.000_05), "0.0050 %");
        assert_eq!(plain("a\u{1b}[31m\n"), "a\\u{1b}[31m\\n");
    }

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["name", ">joules"]);
        table.row(["long name".into(), "1".into()]);
        assert_eq!(table.render(1), " name       joules\n long name       1\n");
    }
}
