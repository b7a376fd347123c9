//! Progress on stderr: a bar with bytes, rate and ETA on a terminal, plain lines elsewhere.

use std::{
    io::{IsTerminal, stderr},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::table;
use crate::sql::Progress;

/// Shows how far a run is.
pub enum Reporter {
    Bar(ProgressBar),
    Lines(Mutex<Lines>),
    Silent,
}

/// The state of plain progress: one line at most every few seconds.
pub struct Lines {
    total: u64,
    done: u64,
    started: Instant,
    printed: Instant,
}

const LINE_INTERVAL: Duration = Duration::from_secs(5);

impl Reporter {
    /// A bar where stderr is a terminal, lines where it is not.
    pub fn new(silent: bool) -> Self {
        if silent {
            return Self::Silent;
        }
        if !stderr().is_terminal() {
            let now = Instant::now();
            return Self::Lines(Mutex::new(Lines { total: 0, done: 0, started: now, printed: now }));
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        let template = "{bar:32} {decimal_bytes:>9}/{decimal_total_bytes}  {decimal_bytes_per_sec}  ETA {eta}";
        // The template is a constant; a bar without it is still a bar.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self::Bar(bar)
    }
}

impl Progress for Reporter {
    fn start(&self, total: u64) {
        match self {
            Self::Bar(bar) => bar.set_length(total),
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    lines.total = total;
                }
            }
            Self::Silent => {}
        }
    }

    fn advance(&self, bytes: u64) {
        match self {
            Self::Bar(bar) => bar.inc(bytes),
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    lines.advance(bytes);
                }
            }
            Self::Silent => {}
        }
    }

    fn finish(&self) {
        if let Self::Bar(bar) = self {
            bar.finish_and_clear();
        }
    }
}

impl Lines {
    fn advance(&mut self, bytes: u64) {
        self.done += bytes;
        if self.printed.elapsed() < LINE_INTERVAL {
            return;
        }
        self.printed = Instant::now();
        let rate = self.done as f64 / self.started.elapsed().as_secs_f64();
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1.0);
        eprintln!(
            "{} of {}, {}/s, {left:.0} s left",
            table::bytes(self.done),
            table::bytes(self.total),
            table::bytes(rate as u64)
        );
    }
}
