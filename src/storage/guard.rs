//! Decoders of other crates panic at some damaged files: here that is an error about the file.

use std::{
    any::Any,
    cell::Cell,
    panic::{self, AssertUnwindSafe},
    sync::Once,
};

use arrow_array::RecordBatch;
use arrow_schema::ArrowError;

thread_local! {
    /// Says that a panic of this thread is caught, and not printed.
    static CAUGHT: Cell<bool> = const { Cell::new(false) };
}

/// Calls a decoder. After an error it must not be called again: its state may be any.
///
/// # Errors
/// Returns the message of the decoder's panic.
pub fn guarded<T>(decode: impl FnOnce() -> T) -> Result<T, String> {
    caught(decode).map_err(|words| format!("is damaged: {words}"))
}

/// Calls what may panic, and prints nothing of it.
///
/// # Errors
/// Returns the message of its panic.
pub fn caught<T>(call: impl FnOnce() -> T) -> Result<T, String> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let print = panic::take_hook();
        panic::set_hook(Box::new(move |panic| {
            if !CAUGHT.get() {
                print(panic);
            }
        }));
    });
    let outer = CAUGHT.replace(true);
    let called = panic::catch_unwind(AssertUnwindSafe(call));
    CAUGHT.set(outer);
    called.map_err(|panic| words(&*panic))
}

/// Returns the message of a panic, in one line.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
    text.unwrap_or("its decoder gave up").lines().collect::<Vec<_>>().join(" ")
}

/// The batches of a decoder, until one is an error.
pub struct Guarded<I> {
    batches: Option<I>,
}

impl<I> Guarded<I> {
    /// Guards the batches that `batches` decodes.
    pub const fn new(batches: I) -> Self {
        Self { batches: Some(batches) }
    }
}

impl<I: Iterator<Item = Result<RecordBatch, ArrowError>>> Iterator for Guarded<I> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut batches = self.batches.take()?;
        let batch = guarded(|| batches.next()).unwrap_or_else(|problem| Some(Err(ArrowError::ParquetError(problem))));
        if matches!(batch, Some(Ok(_))) {
            self.batches = Some(batches);
        }
        batch
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_of_one_line_and_the_last_batch() {
        assert_eq!(guarded(|| 1), Ok(1));
        let gives_up = || -> u8 { panic!("length {}\nis odd", 7) };
        assert_eq!(guarded(gives_up), Err("is damaged: length 7 is odd".to_owned()));
        assert_eq!(guarded(|| -> u8 { panic!("odd") }), Err("is damaged: odd".to_owned()));
        assert!(!CAUGHT.get());
        let mut batches = Guarded::new(std::iter::repeat_with(|| panic!("again")));
        assert!(batches.next().unwrap().is_err());
        assert!(batches.next().is_none());
    }
}
