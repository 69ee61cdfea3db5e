//! A line on the terminal while the solver works (phase, incumbent, bound, gap, time) or a study runs. Anywhere else,
//! nothing.

use std::io::{self, IsTerminal};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::plan::{Phase, Progress};
use crate::report::text::{energy, percent};

pub struct Line(Option<ProgressBar>);

impl Line {
    pub fn new(quiet: bool) -> Self {
        if quiet || !io::stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} [{elapsed}]") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        Self(Some(bar))
    }

    pub fn say(&self, text: &str) {
        if let Some(bar) = &self.0 {
            bar.set_message(text.to_owned());
        }
    }

    /// Does what prints something, with the line out of its way.
    pub fn above(&self, print: impl FnOnce()) {
        match &self.0 {
            Some(bar) => bar.suspend(print),
            None => print(),
        }
    }

    pub fn show(&self, progress: &Progress) {
        let Some(bar) = &self.0 else { return };
        let incumbent = progress.incumbent.map_or("none yet".to_owned(), energy);
        let gap = progress.incumbent.filter(|best| *best > 0.0).map(|best| (best - progress.bound) / best);
        let gap = gap.map_or(String::new(), |gap| format!(", gap {}", percent(gap.max(0.0))));
        bar.set_message(format!("{}: plan {incumbent}, bound {}{gap}", words(progress.phase), energy(progress.bound)));
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

fn words(phase: Phase) -> &'static str {
    match phase {
        Phase::Baselines => "baselines",
        Phase::Classes => "classes",
        Phase::Relaxation => "relaxation",
        Phase::Certificate => "proof that there is no plan",
        Phase::Bound => "bound",
        Phase::Placement => "placement",
        Phase::Search => "search",
    }
}
