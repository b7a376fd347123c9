//! Progress on stderr: a bar with bytes, rate and ETA on a terminal, plain lines elsewhere.

use std::{
    io::{IsTerminal, stderr},
    sync::Mutex,
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{error::tell, table};
use crate::run::progress::{Pass, Progress};

/// Shows how far a run is, one pass after the other.
pub enum Reporter {
    Bar(ProgressBar),
    /// The pass that is on; none before the first.
    Lines(Mutex<Option<Lines>>),
    Silent,
}

/// A pass in plain lines: one at most every few seconds.
pub struct Lines {
    pass: Pass,
    total: u64,
    done: u64,
    started: Instant,
    printed: Instant,
}

const LINE_INTERVAL: Duration = Duration::from_secs(5);

impl Reporter {
    /// Returns a bar where stderr is a terminal, lines where it is not.
    pub fn new(silent: bool) -> Self {
        if silent {
            return Self::Silent;
        }
        if !stderr().is_terminal() {
            return Self::Lines(Mutex::default());
        }
        let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(10));
        let template = "{msg:16} {bar:32} {decimal_bytes:>9}/{decimal_total_bytes}  {decimal_bytes_per_sec}  ETA {eta}";
        // The template is a constant; a bar without it is still a bar.
        bar.set_style(ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self::Bar(bar)
    }
}

impl Progress for Reporter {
    fn start(&self, pass: Pass, total: u64) {
        match self {
            Self::Bar(bar) => {
                bar.set_message(pass.to_string());
                bar.set_length(total);
                // A bar that has finished shows nothing more, and keeps its count, until it is reset.
                bar.reset();
            }
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock() {
                    *lines = Some(Lines::new(pass, total));
                }
            }
            Self::Silent => {}
        }
    }

    fn advance(&self, bytes: u64) {
        match self {
            Self::Bar(bar) => bar.inc(bytes),
            Self::Lines(lines) => {
                if let Ok(mut lines) = lines.lock()
                    && let Some(line) = lines.as_mut().and_then(|lines| lines.advance(bytes, Instant::now()))
                {
                    tell(format_args!("{line}"));
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
    fn new(pass: Pass, total: u64) -> Self {
        let now = Instant::now();
        Self { pass, total, done: 0, started: now, printed: now }
    }

    /// Returns the next line, where it is time for one.
    fn advance(&mut self, bytes: u64, now: Instant) -> Option<String> {
        self.done += bytes;
        if now.duration_since(self.printed) < LINE_INTERVAL {
            return None;
        }
        self.printed = now;
        let rate = self.done as f64 / now.duration_since(self.started).as_secs_f64();
        let left = self.total.saturating_sub(self.done) as f64 / rate.max(1.0);
        let [done, total, rate] = [self.done, self.total, rate as u64].map(table::bytes);
        Some(format!("{}: {done} of {total}, {rate}/s, {left:.0} s left", self.pass))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_pass_of_a_bar_begins_at_0_and_is_shown() {
        let bar = ProgressBar::hidden();
        let reporter = Reporter::Bar(bar.clone());
        for (pass, total) in [(Pass::Widths, 10), (Pass::Quantize, 200), (Pass::Check, 100)] {
            reporter.start(pass, total);
            assert_eq!((bar.position(), bar.length(), bar.is_finished()), (0, Some(total), false));
            assert_eq!(bar.message(), pass.to_string());
            reporter.advance(total);
            assert_eq!(bar.position(), total);
            reporter.finish();
            assert!(bar.is_finished());
        }
    }

    #[test]
    fn a_line_says_which_pass_it_is_of_and_counts_that_alone() {
        let reporter = Reporter::Lines(Mutex::default());
        reporter.start(Pass::Channels, 1000);
        reporter.advance(1000);
        reporter.finish();
        reporter.start(Pass::Quantize, 2000);
        let Reporter::Lines(lines) = &reporter else { panic!("no lines") };
        let mut lines = lines.lock().unwrap();
        let lines = lines.as_mut().unwrap();
        let started = lines.started;
        assert_eq!(lines.advance(100, started + Duration::from_secs(4)), None);
        let line = lines.advance(400, started + LINE_INTERVAL).unwrap();
        assert_eq!(line, "quantize: 500 B of 2.00 kB, 100 B/s, 15 s left");
        assert_eq!(lines.advance(100, started + Duration::from_secs(9)), None);
    }
}
