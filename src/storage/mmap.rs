//! The bytes of a file as Arrow buffers, mapped without a copy or read to memory. The one place with `unsafe`.
//!
//! A mapping is read as the pages are touched, so **a file that another program shortens while it is mapped ends this
//! process with SIGBUS**, and one that is overwritten gives other bytes: a model must not change while it is read.
//! That it is not so when the file is opened is checked against the header.

use std::{fs::File, ops::Range, path::Path, ptr::NonNull, sync::Arc};

use arrow_buffer::Buffer;
use memmap2::Mmap;
#[cfg(unix)]
use memmap2::{Advice, UncheckedAdvice};

use super::error::IoError;

/// What windows are released in: a huge page, as which the system may map a file. Releasing a part of one takes it apart,
/// and costs as much as releasing it whole. What the system maps around a fault goes with it.
const RELEASE: usize = 2 * 1024 * 1024;

/// The bytes of a file.
#[derive(Debug, Clone)]
pub struct Contents(Kind);

#[derive(Debug, Clone)]
enum Kind {
    Mapped(Arc<Mmap>),
    Loaded(Buffer),
}

impl Contents {
    /// Maps a file, to be read mostly front to back.
    ///
    /// # Errors
    /// The file cannot be opened or mapped, or is no regular file.
    pub fn map(path: &Path) -> Result<Self, IoError> {
        let file = open(path)?;
        // SAFETY: the mapping is read-only and private to this type, which hands out shared slices only. That the file
        // does not change meanwhile is asked of the caller, as said at the top of this file: no system guarantees it.
        let map = unsafe { Mmap::map(&file) }.map_err(IoError::system("map", path))?;
        #[cfg(unix)]
        let _ = map.advise(Advice::Sequential);
        Ok(Self(Kind::Mapped(Arc::new(map))))
    }

    /// Reads a whole file to memory.
    ///
    /// # Errors
    /// The file cannot be opened or read, or is no regular file.
    pub fn load(path: &Path) -> Result<Self, IoError> {
        open(path)?;
        let bytes = std::fs::read(path).map_err(IoError::system("read", path))?;
        Ok(Self(Kind::Loaded(Buffer::from_vec(bytes))))
    }

    /// All bytes. What is touched of a mapping stays resident until a [`Self::buffer`] over it is dropped.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            Kind::Mapped(map) => map,
            Kind::Loaded(buffer) => buffer,
        }
    }

    /// A range as a buffer, without a copy. `None`: it does not lie in the file.
    ///
    /// The pages behind it leave this process's resident memory when the last reference to the buffer is dropped,
    /// so a pass over a file of any size keeps as much resident as it keeps buffers.
    pub fn buffer(&self, range: Range<usize>) -> Option<Buffer> {
        self.buffer_of_pass(range, false)
    }

    /// As [`Self::buffer`], for one of the buffers that a pass takes one after the other. `continues`: the next of them
    /// begins where this one ends, and takes the last pages of this one with it. Where none comes, as when the pass is
    /// stopped, up to 2 MiB of the file stay resident.
    pub fn buffer_of_pass(&self, range: Range<usize>, continues: bool) -> Option<Buffer> {
        let bytes = self.bytes().get(range.clone())?;
        match &self.0 {
            Kind::Loaded(buffer) => Some(buffer.slice_with_length(range.start, range.len())),
            Kind::Mapped(map) => {
                let start = range.start / RELEASE * RELEASE;
                let last = range.end == map.len() || !continues;
                let end = if last { range.end.next_multiple_of(RELEASE) } else { range.end / RELEASE * RELEASE };
                let window = Arc::new(Window { map: Arc::clone(map), release: start..end.min(map.len()) });
                // SAFETY: the pointer and length are those of a slice of the mapping, which `window` keeps alive.
                Some(unsafe { Buffer::from_custom_allocation(NonNull::from(bytes).cast(), bytes.len(), window) })
            }
        }
    }

    /// Lets go of every page that was touched so far. A few bytes here and there keep a multiple of them resident: the
    /// system maps what lies around them, up to 2 MiB at a time.
    pub fn release(&self) {
        #[cfg(unix)]
        if let Kind::Mapped(map) = &self.0 {
            release(map, 0..map.len());
        }
    }

    /// Asks the system to read a range ahead. A hint: what lies outside the file is cut off, a refusal passed over.
    pub fn prefetch(&self, range: Range<usize>) {
        let end = range.end.min(self.bytes().len());
        #[cfg(unix)]
        if let Kind::Mapped(map) = &self.0
            && range.start < end
        {
            let _ = map.advise_range(Advice::WillNeed, range.start, end - range.start);
        }
    }
}

/// What a buffer over a mapping keeps alive.
struct Window {
    map: Arc<Mmap>,
    release: Range<usize>,
}

#[cfg(unix)]
impl Drop for Window {
    fn drop(&mut self) {
        release(&self.map, self.release.clone());
    }
}

/// Drops the pages of a range from this process's resident memory.
#[cfg(unix)]
fn release(map: &Mmap, range: Range<usize>) {
    if !range.is_empty() {
        // SAFETY: the mapping is shared, backed by a file and never written, so a page that is dropped and touched
        // again, by a neighbour or by another buffer over the same bytes, is read from the file again.
        let _ = unsafe { map.unchecked_advise_range(UncheckedAdvice::DontNeed, range.start, range.len()) };
    }
}

fn open(path: &Path) -> Result<File, IoError> {
    // Asked before it is opened: opening a pipe would wait for a writer.
    let kind = std::fs::metadata(path).map_err(IoError::system("open", path))?;
    if !kind.is_file() {
        return Err(IoError::file(path, "is not a file"));
    }
    File::open(path).map_err(IoError::system("open", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(bytes: &[u8]) -> tempfile::NamedTempFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        file
    }

    #[test]
    fn a_mapped_and_a_loaded_file_give_the_same_bytes() {
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        let file = file(&bytes);
        for contents in [Contents::map(file.path()).unwrap(), Contents::load(file.path()).unwrap()] {
            for range in [0..0, 0..200_000, 3..70_001, 131_072..131_073, 200_000..200_000] {
                // Twice: the second reads pages that the first has released.
                assert_eq!(contents.buffer(range.clone()).unwrap().as_slice(), &bytes[range.clone()]);
                assert_eq!(contents.buffer(range.clone()).unwrap().as_slice(), &bytes[range]);
            }
            assert!(contents.buffer(1..200_001).is_none());
            #[allow(clippy::reversed_empty_ranges)]
            let reversed = contents.buffer(2..1);
            assert!(reversed.is_none() && contents.buffer(0..usize::MAX).is_none());
            for (range, continues) in [(0..70_001, true), (70_001..150_000, true), (150_000..200_000, false)] {
                let buffer = contents.buffer_of_pass(range.clone(), continues).unwrap();
                assert_eq!(buffer.as_slice(), &bytes[range]);
            }
            contents.prefetch(199_999..usize::MAX);
        }
    }

    #[test]
    fn a_buffer_outlives_the_contents_and_shares_the_mapping() {
        let file = file(&[7; 5000]);
        let contents = Contents::map(file.path()).unwrap();
        let start = contents.bytes().as_ptr();
        let buffer = contents.buffer(1000..5000).unwrap();
        drop(contents);
        assert_eq!(buffer.as_ptr() as usize - start as usize, 1000);
        assert!(buffer.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn a_missing_file_and_a_folder_are_errors_that_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let message = Contents::map(&missing).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}: cannot open: ", missing.display())), "{message}");
        assert!(Contents::load(folder.path()).unwrap_err().to_string().ends_with(": is not a file"));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pass_over_a_large_file_keeps_a_window_resident() {
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(1 << 30).unwrap();
        let contents = Contents::map(file.path()).unwrap();
        // Of this mapping alone: other tests run in the same process.
        let resident = || -> u64 {
            let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
            let (_, map) = maps.split_once(file.path().to_str().unwrap()).unwrap();
            let line = map.lines().find(|line| line.starts_with("Rss:")).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        // Single bytes far apart, as a digest of samples takes them.
        assert!(contents.bytes().iter().step_by(1 << 20).all(|byte| *byte == 0));
        assert!(resident() > 1024);
        contents.release();
        assert_eq!(resident(), 0);
        // An odd size: windows begin and end inside pages.
        let window = (1 << 20) + 1234;
        let pass = |size: usize, buffer: &dyn Fn(Range<usize>, bool) -> Buffer| {
            let mut most = 0;
            for (number, start) in (0..size).step_by(window).enumerate() {
                let end = (start + window).min(size);
                contents.prefetch(end..end + window);
                let buffer = buffer(start..end, end < size);
                assert_eq!(buffer.iter().map(|byte| u64::from(*byte)).sum::<u64>(), 0);
                if number % 32 == 0 {
                    most = most.max(resident());
                }
            }
            assert!((1024..8 * 1024).contains(&most), "{most} kB were resident");
            resident()
        };
        let left = pass(1 << 30, &|range, _| contents.buffer(range).unwrap());
        assert_eq!(left, 0);
        // A pass that ends in the middle of the file leaves nothing.
        let left = pass((1 << 29) + 12_345, &|range, continues| contents.buffer_of_pass(range, continues).unwrap());
        assert_eq!(left, 0);
    }
}
