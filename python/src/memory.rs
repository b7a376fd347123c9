//! The memory of a NumPy array as an Arrow buffer, without a copy. The only `unsafe` of the package.

use std::{panic::RefUnwindSafe, ptr::NonNull, sync::Arc};

use arrow_buffer::{Buffer, MutableBuffer};
use pyo3::prelude::*;

/// Keeps a Python object alive for as long as a buffer points into it.
struct Owner(#[allow(dead_code, reason = "held, not read")] Py<PyAny>);

impl RefUnwindSafe for Owner {}

/// Returns `length` bytes at `address`, which belong to `owner`.
///
/// # Safety
/// The bytes must be readable for as long as `owner` lives, and must not be written to meanwhile: NumPy's arrays are
/// given in that trust, as Arrow's are.
pub unsafe fn borrow(address: usize, length: usize, owner: Py<PyAny>) -> Buffer {
    match NonNull::new(address as *mut u8) {
        // SAFETY: the caller's promise; the allocation drops the owner with the last buffer.
        Some(start) if length > 0 => unsafe { Buffer::from_custom_allocation(start, length, Arc::new(Owner(owner))) },
        // Aligned for every type, which an empty vector of bytes is not.
        _ => MutableBuffer::new(0).into(),
    }
}
