//! The content of a page, in the form of its template.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{histogram::Histogram, tensors::Loss};
use crate::{
    run::{
        compare::{Compared, difference::Difference},
        quantity::{bytes, quantity},
    },
    types::quantized::ENTROPY_BITS,
};

/// Kinds of tensors that the sizes are shown of; the rest are one bar.
const KINDS: usize = 12;

/// Tensors in a list of the worst, and of the largest that are copied.
const LISTED: usize = 10;

/// The colours of a scale, from low to high, which differ in lightness too: viridis.
const COLOURS: [[f64; 3]; 5] =
    [[68.0, 1.0, 84.0], [59.0, 82.0, 139.0], [33.0, 145.0, 140.0], [94.0, 201.0, 98.0], [253.0, 231.0, 37.0]];

/// Everything between the head and the foot of a page.
#[derive(Debug, Default, Serialize)]
pub struct Section {
    figures: Vec<(&'static str, String)>,
    sizes: Vec<Bar>,
    widths: Vec<Bar>,
    kinds: Vec<Kind>,
    /// The least and the largest SQNR in dB, and the colours between.
    scale: Option<(String, String, Vec<String>)>,
    worst: Vec<Line>,
    copied: Vec<Line>,
    others: Vec<Line>,
    histograms: Vec<Histogram>,
}

/// A bar: how long it is of the longest, and what part of it is dark, in percent.
#[derive(Debug, Serialize)]
struct Bar {
    name: String,
    whole: String,
    part: String,
    text: String,
}

/// Tensors of one kind, in the order of the model.
#[derive(Debug, Serialize)]
struct Kind {
    name: String,
    least: String,
    mean: String,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Cell {
    title: String,
    colour: String,
}

#[derive(Debug, Serialize)]
struct Line {
    name: String,
    figure: String,
    text: String,
}

impl Section {
    /// Returns the section of a report.
    pub fn of_report(losses: &[Loss], histograms: Vec<Histogram>) -> Self {
        let quantized: Vec<&Loss> = losses.iter().filter(|loss| loss.bits.is_some()).collect();
        let sum = |of: fn(&Loss) -> u64| losses.iter().map(of).sum::<u64>();
        let weights: f64 = quantized.iter().map(|loss| loss.weights).sum();
        let stored: f64 = quantized.iter().map(|loss| loss.bytes.1 as f64 * 8.0).sum();
        let mut figures = vec![
            ("tensors quantized", format!("{} of {}", quantized.len(), losses.len())),
            ("size", format!("{} to {}", bytes(sum(|loss| loss.bytes.0)), bytes(sum(|loss| loss.bytes.1)))),
        ];
        if weights > 0.0 {
            figures.push(("weights quantized", quantity(weights as u64)));
            figures.push(("bits per weight", format!("{:.3}", stored / weights)));
        }
        figures.extend(total_sqnr(losses).map(|db| ("SQNR", decibels(db))));
        let mut copied: Vec<&Loss> = losses.iter().filter(|loss| loss.bits.is_none()).collect();
        copied.sort_by_key(|loss| std::cmp::Reverse(loss.bytes.1));
        Self {
            figures,
            sizes: sizes(losses),
            widths: widths(losses),
            copied: lines(copied.into_iter(), |loss| bytes(loss.bytes.1)),
            histograms,
            ..Self::of_losses(losses)
        }
    }

    /// Returns the section of a comparison.
    pub fn of_comparison(losses: &[Loss], compared: &[Compared], histograms: Vec<Histogram>) -> Self {
        let count = |is: fn(&Difference) -> bool| compared.iter().filter(|tensor| is(&tensor.difference)).count();
        let mut figures = vec![
            ("tensors", compared.len().to_string()),
            ("identical", count(|difference| matches!(difference, Difference::Identical)).to_string()),
            ("with other weights", losses.len().to_string()),
        ];
        figures.extend(total_sqnr(losses).map(|db| ("SQNR of those", decibels(db))));
        let others = compared.iter().filter_map(|tensor| {
            let text = match &tensor.difference {
                Difference::Identical | Difference::Error(_) => return None,
                other => other.to_string(),
            };
            Some(Line { name: tensor.name.clone(), figure: String::new(), text })
        });
        Self { figures, others: others.collect(), histograms, ..Self::of_losses(losses) }
    }

    /// Returns what both have.
    fn of_losses(losses: &[Loss]) -> Self {
        let finite = || losses.iter().filter_map(|loss| loss.sqnr).filter(|db| db.is_finite());
        let (low, high) = finite().fold((f64::MAX, f64::MIN), |(low, high), db| (low.min(db), high.max(db)));
        let mut order: Vec<String> = Vec::new();
        let mut kinds: BTreeMap<String, Vec<&Loss>> = BTreeMap::new();
        for loss in losses.iter().filter(|loss| loss.sqnr.is_some()) {
            let kind = loss.kind();
            let members = kinds.entry(kind.clone()).or_default();
            if members.is_empty() {
                order.push(kind);
            }
            members.push(loss);
        }
        let row = |name: String| {
            let members = kinds.get(&name).map_or(&[][..], Vec::as_slice);
            let db = || members.iter().filter_map(|loss| loss.sqnr);
            Kind {
                least: decibels(db().fold(f64::INFINITY, f64::min)),
                mean: decibels(db().sum::<f64>() / members.len().max(1) as f64),
                cells: members.iter().map(|loss| cell(loss, low, high)).collect(),
                name,
            }
        };
        let steps = (0..=8).map(|step| colour(f64::from(step) / 8.0)).collect();
        Self {
            kinds: order.into_iter().map(row).collect(),
            scale: (low <= high).then(|| (decibels(low), decibels(high), steps)),
            worst: lines(worst(losses).into_iter(), |loss| loss.sqnr.map_or_else(String::new, decibels)),
            ..Self::default()
        }
    }
}

/// Returns the tensors that lost something, the worst first.
pub fn worst(losses: &[Loss]) -> Vec<&Loss> {
    let mut found: Vec<&Loss> = losses.iter().filter(|loss| loss.sqnr.is_some_and(f64::is_finite)).collect();
    found.sort_by(|a, b| a.sqnr.partial_cmp(&b.sqnr).unwrap_or(std::cmp::Ordering::Equal));
    found
}

/// Returns the ratio of all signals to all errors in dB, or `None` where nothing was lost.
fn total_sqnr(losses: &[Loss]) -> Option<f64> {
    let (mut signal, mut error) = (0.0, 0.0);
    for loss in losses {
        if let Some(db) = loss.sqnr.filter(|db| db.is_finite()) {
            signal += loss.error * 10f64.powf(db / 10.0);
            error += loss.error;
        }
    }
    (error > 0.0).then(|| 10.0 * (signal / error).log10())
}

/// Returns a bar for the bytes of each kind of tensor, before and after, the largest first.
fn sizes(losses: &[Loss]) -> Vec<Bar> {
    let mut kinds: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for loss in losses {
        let (before, after) = kinds.entry(loss.kind()).or_default();
        (*before, *after) = (*before + loss.bytes.0, *after + loss.bytes.1);
    }
    let mut kinds: Vec<(String, (u64, u64))> = kinds.into_iter().collect();
    kinds.sort_by_key(|(_, (before, _))| std::cmp::Reverse(*before));
    if kinds.len() > KINDS {
        let rest = kinds.split_off(KINDS - 1);
        let sum = rest.iter().fold((0, 0), |sum, (_, bytes)| (sum.0 + bytes.0, sum.1 + bytes.1));
        kinds.push((format!("{} others", rest.len()), sum));
    }
    let most = kinds.iter().map(|(_, (before, after))| *before.max(after)).max().unwrap_or(0).max(1);
    let bar = |(name, (before, after)): (String, (u64, u64))| Bar {
        whole: percent(before as f64, most as f64),
        part: percent(after as f64, most as f64),
        text: format!("{} to {}", bytes(before), bytes(after)),
        name,
    };
    kinds.into_iter().map(bar).collect()
}

/// Returns a width in words; 0 is that of entropy-coded weights, whose bits are no integers.
fn width(bits: i64) -> String {
    if bits == i64::from(ENTROPY_BITS) { "entropy-coded".to_owned() } else { format!("{bits} bits") }
}

/// Returns a bar for the weights of each width.
fn widths(losses: &[Loss]) -> Vec<Bar> {
    let mut widths: BTreeMap<Option<i64>, (f64, u64, usize)> = BTreeMap::new();
    for loss in losses {
        let (weights, bytes, tensors) = widths.entry(loss.bits).or_default();
        (*weights, *bytes, *tensors) = (*weights + loss.weights, *bytes + loss.bytes.1, *tensors + 1);
    }
    let all: f64 = losses.iter().map(|loss| loss.weights).sum::<f64>().max(1.0);
    let bar = |(bits, (weights, size, tensors)): (Option<i64>, (f64, u64, usize))| Bar {
        name: bits.map_or_else(|| "copied".into(), width),
        whole: "100".into(),
        part: percent(weights, all),
        text: format!("{tensors} tensors, {} weights, {}", quantity(weights as u64), bytes(size)),
    };
    widths.into_iter().rev().map(bar).collect()
}

fn lines<'a>(losses: impl Iterator<Item = &'a Loss>, figure: impl Fn(&Loss) -> String) -> Vec<Line> {
    let line = |loss: &Loss| {
        let bits = loss.bits.map(width).unwrap_or_default();
        let text = [bits, loss.note.clone()].into_iter().filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ");
        Line { name: loss.name.clone(), figure: figure(loss), text }
    };
    losses.take(LISTED).map(line).collect()
}

fn cell(loss: &Loss, low: f64, high: f64) -> Cell {
    let db = loss.sqnr.unwrap_or(f64::INFINITY);
    let bits = loss.bits.map(|bits| format!(", {}", width(bits))).unwrap_or_default();
    let at = if db.is_finite() && high > low { (db - low) / (high - low) } else { 1.0 };
    Cell { title: format!("{}: {}{bits}", loss.name, decibels(db)), colour: colour(at) }
}

/// Returns the colour at a place of the scale, 0 to 1.
fn colour(at: f64) -> String {
    let place = at.clamp(0.0, 1.0) * (COLOURS.len() - 1) as f64;
    let first = (place as usize).min(COLOURS.len() - 2);
    let share = place - first as f64;
    let [red, green, blue] = std::array::from_fn(|i| {
        (COLOURS[first][i] + share * (COLOURS[first + 1][i] - COLOURS[first][i])).round() as u8
    });
    format!("#{red:02x}{green:02x}{blue:02x}")
}

fn decibels(db: f64) -> String {
    if db.is_finite() { format!("{db:.2} dB") } else { "nothing lost".into() }
}

fn percent(part: f64, whole: f64) -> String {
    format!("{:.1}", 100.0 * part / whole)
}
