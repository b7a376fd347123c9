//! Quantizes a record batch of weights and prints how well it comes back at each width.
#![allow(clippy::print_stdout, reason = "printing is what an example is for")]

use std::sync::Arc;

use arrow_array::{ListArray, RecordBatch, types::Float32Type};
use arrow_quant::{
    compute::{ComputeError, dequantize_batch, quantize_batch, sqnr},
    types::{Bits, QuantizeOptions},
};

/// A wave of several frequencies stands in for trained weights.
fn weight(row: usize, column: usize) -> f32 {
    let (row, column) = (row as f32, column as f32);
    (column * 0.37 + row).sin() * 0.02 + (column * column * 0.011).sin() * 0.01
}

fn main() -> Result<(), ComputeError> {
    let rows = (0..64).map(|row| Some((0..4096).map(move |column| Some(weight(row, column)))));
    let weights = Arc::new(ListArray::from_iter_primitive::<Float32Type, _, _>(rows));
    let batch = RecordBatch::try_from_iter([("weights", weights as _)])?;
    for bits in Bits::ALL {
        let options = QuantizeOptions::new(bits);
        let quantized = quantize_batch(&batch, &options)?;
        let decoded = dequantize_batch(&quantized)?;
        let sqnr = sqnr(batch.column(0), decoded.column(0))?;
        let mean = sqnr.iter().flatten().sum::<f64>() / batch.num_rows() as f64;
        let bits_per_weight = options.row_bytes(4096) as f64 * 8.0 / 4096.0;
        println!("{bits} bits ({bits_per_weight:.2} with parameters), {}: {mean:.2} dB", options.method);
    }
    Ok(())
}
