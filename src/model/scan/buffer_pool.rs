//! Buffers for rows, used again once a batch is done with.

use std::sync::{Arc, Mutex, PoisonError};

use arrow_buffer::{ArrowNativeType, Buffer, ToByteSlice};

/// The buffers that a pass over rows has made and that no array holds any more.
///
/// A batch needs a few MiB. Asked of the system each time, they are cleared and mapped page by page, which takes longer
/// than reading or widening the rows, and what the allocator keeps of them grows with the model.
#[derive(Debug, Default, Clone)]
pub struct Pool<T>(Arc<Mutex<Vec<Vec<T>>>>);

/// The buffers of a pass.
#[derive(Debug, Default)]
pub struct Pools {
    /// Rows as they are stored.
    pub stored: Pool<u8>,
    /// Rows widened to f32.
    pub widened: Pool<f32>,
}

/// Buffers kept at most: the batch in work and those that a consumer still holds come from here.
const KEPT: usize = 4;

/// A buffer that goes back to its pool with the last array that uses it.
struct Lent<T: ArrowNativeType> {
    values: Vec<T>,
    pool: Pool<T>,
}

impl<T: ArrowNativeType> Pool<T> {
    /// A buffer of `length` elements, which `fill` sets; they hold any values before.
    ///
    /// # Errors
    /// Returns the error of `fill`.
    pub fn buffer<E>(&self, length: usize, fill: impl FnOnce(&mut [T]) -> Result<(), E>) -> Result<Buffer, E> {
        let mut values = self.buffers().pop().unwrap_or_default();
        if values.len() < length {
            // Not resized: the old values would be copied.
            values = vec![T::default(); length];
        }
        fill(&mut values[..length])?;
        let lent = bytes::Bytes::from_owner(Lent { values, pool: self.clone() });
        Ok(Buffer::from(lent).slice_with_length(0, length * size_of::<T>()))
    }

    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Vec<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ArrowNativeType> AsRef<[u8]> for Lent<T> {
    fn as_ref(&self) -> &[u8] {
        self.values.to_byte_slice()
    }
}

impl<T: ArrowNativeType> Drop for Lent<T> {
    fn drop(&mut self) {
        let mut buffers = self.pool.buffers();
        if buffers.len() < KEPT {
            buffers.push(std::mem::take(&mut self.values));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use arrow_array::Float32Array;
    use arrow_buffer::ScalarBuffer;

    use super::*;

    fn array(pool: &Pool<f32>, length: usize, value: f32) -> Float32Array {
        let fill = |values: &mut [f32]| -> Result<(), Infallible> {
            values.fill(value);
            Ok(())
        };
        let buffer = pool.buffer(length, fill).unwrap_or_else(|never| match never {});
        Float32Array::new(ScalarBuffer::new(buffer, 0, length), None)
    }

    #[test]
    fn a_buffer_is_used_again_when_no_array_holds_it() {
        let pool = Pool::default();
        let first = array(&pool, 1000, 1.0);
        let place = first.values().as_ptr();
        let slice = first.slice(10, 5);
        drop(first);
        let second = array(&pool, 1000, 2.0);
        assert_ne!(second.values().as_ptr(), place);
        assert_eq!(slice.values()[..], [1.0; 5]);
        drop(slice);
        let third = array(&pool, 500, 3.0);
        assert_eq!(third.values().as_ptr(), place);
        assert_eq!((third.len(), third.value(499), second.value(999)), (500, 3.0, 2.0));
    }

    #[test]
    fn arrays_longer_than_any_buffer_get_their_own() {
        let pool = Pool::default();
        drop(array(&pool, 10, 1.0));
        let long = array(&pool, 5000, 2.0);
        assert!(long.len() == 5000 && long.values().iter().all(|value| *value == 2.0));
        for _ in 0..10 {
            drop([
                array(&pool, 10, 1.0),
                array(&pool, 10, 1.0),
                array(&pool, 10, 1.0),
                array(&pool, 10, 1.0),
                array(&pool, 9, 1.0),
            ]);
        }
        assert_eq!(pool.buffers().len(), KEPT);
    }
}
