//! The bytes of a file: read where and when they are asked for, or all of them to memory first.
//!
//! Nothing is mapped. A file that another program shortens while it is read is then an error that names it, where a mapping
//! would end this process with SIGBUS.

use std::{
    fs::File,
    io,
    ops::Range,
    path::{Path, PathBuf},
};

use arrow_buffer::Buffer;

use super::error::IoError;

/// The bytes of a file.
#[derive(Debug)]
pub struct Contents {
    path: PathBuf,
    length: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Open(File),
    Loaded(Buffer),
}

impl Contents {
    /// Opens a file, of which a range is read whenever it is asked for.
    ///
    /// # Errors
    /// The file cannot be opened, or is no regular file.
    pub fn open(path: &Path) -> Result<Self, IoError> {
        let file = open(path)?;
        let length = file.metadata().map_err(IoError::system("look at", path))?.len();
        let length = usize::try_from(length).map_err(|_| IoError::file(path, "is longer than can be addressed"))?;
        Ok(Self { path: path.to_owned(), length, kind: Kind::Open(file) })
    }

    /// Reads a whole file to memory.
    ///
    /// # Errors
    /// The file cannot be opened or read, or is no regular file.
    pub fn load(path: &Path) -> Result<Self, IoError> {
        open(path)?;
        let bytes = Buffer::from_vec(std::fs::read(path).map_err(IoError::system("read", path))?);
        Ok(Self { path: path.to_owned(), length: bytes.len(), kind: Kind::Loaded(bytes) })
    }

    /// Returns the length of the file when it was opened.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Fills `out` with the bytes from `start` on.
    ///
    /// # Errors
    /// The file has not so many, or no longer, or the system cannot read them.
    pub fn read(&self, start: usize, out: &mut [u8]) -> Result<(), IoError> {
        let range = start..start.saturating_add(out.len());
        match &self.kind {
            _ if range.end > self.length => Err(self.lacks(&range)),
            Kind::Loaded(buffer) => {
                out.copy_from_slice(&buffer[range]);
                Ok(())
            }
            Kind::Open(file) => read_exact_at(file, out, start as u64).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => self.lacks(&range),
                _ => IoError::system("read", &self.path)(error),
            }),
        }
    }

    /// Returns the first bytes, as many as there are up to `most`.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn head(&self, most: usize) -> Result<Vec<u8>, IoError> {
        let mut bytes = vec![0; most.min(self.length)];
        self.read(0, &mut bytes)?;
        Ok(bytes)
    }

    /// Returns a range of a file that is in memory, without a copy. `None` means that it is not, or has no such range.
    pub fn loaded(&self, range: &Range<usize>) -> Option<Buffer> {
        match &self.kind {
            Kind::Loaded(buffer) if range.start <= range.end && range.end <= buffer.len() => {
                Some(buffer.slice_with_length(range.start, range.len()))
            }
            _ => None,
        }
    }

    /// Asks the system to read a range ahead: a hint, whose refusal makes no difference.
    pub fn prefetch(&self, range: &Range<usize>) {
        #[cfg(target_os = "linux")]
        if let Kind::Open(file) = &self.kind
            && let Some(length) = std::num::NonZeroU64::new(range.len() as u64)
        {
            let _ = rustix::fs::fadvise(file, range.start as u64, Some(length), rustix::fs::Advice::WillNeed);
        }
    }

    fn lacks(&self, range: &Range<usize>) -> IoError {
        let length = match &self.kind {
            Kind::Open(file) => file.metadata().map_or(self.length, |data| data.len() as usize),
            Kind::Loaded(_) => self.length,
        };
        let (start, end) = (range.start, range.end);
        let problem = if length < self.length {
            format!("was cut from {} to {length} bytes while it was read; bytes {start} to {end} are gone", self.length)
        } else {
            format!("has {length} bytes, and none from {start} to {end}")
        };
        IoError::file(&self.path, problem)
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

#[cfg(unix)]
fn read_exact_at(file: &File, out: &mut [u8], start: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::read_exact_at(file, out, start)
}

#[cfg(windows)]
fn read_exact_at(file: &File, mut out: &mut [u8], mut start: u64) -> io::Result<()> {
    while !out.is_empty() {
        match std::os::windows::fs::FileExt::seek_read(file, out, start)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            read => {
                out = &mut out[read..];
                start += read as u64;
            }
        }
    }
    Ok(())
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
    fn an_open_and_a_loaded_file_give_the_same_bytes() {
        let bytes: Vec<u8> = (0..200_000u32).map(|i| (i % 251) as u8).collect();
        let file = file(&bytes);
        let (open, loaded) = (Contents::open(file.path()).unwrap(), Contents::load(file.path()).unwrap());
        for contents in [&open, &loaded] {
            assert_eq!(contents.length(), 200_000);
            for range in [0..0, 0..200_000, 3..70_001, 131_072..131_073, 200_000..200_000] {
                let mut read = vec![0; range.len()];
                contents.read(range.start, &mut read).unwrap();
                assert_eq!(read, &bytes[range]);
            }
            for start in [1, usize::MAX] {
                let message = contents.read(start, &mut vec![0; 200_000]).unwrap_err().to_string();
                assert!(message.contains(&format!("has 200000 bytes, and none from {start} to ")), "{message}");
            }
            assert_eq!(contents.head(5).unwrap(), &bytes[..5]);
            assert_eq!(contents.head(usize::MAX).unwrap(), bytes);
            contents.prefetch(&(199_999..usize::MAX));
        }
        assert_eq!(loaded.loaded(&(3..7)).unwrap().as_slice(), &bytes[3..7]);
        assert!(open.loaded(&(3..7)).is_none());
        #[allow(clippy::reversed_empty_ranges)]
        let reversed = loaded.loaded(&(2..1));
        assert!(reversed.is_none() && loaded.loaded(&(0..200_001)).is_none());
    }

    #[test]
    fn a_file_that_is_cut_while_it_is_open_is_named() {
        let file = file(&[7; 5000]);
        let contents = Contents::open(file.path()).unwrap();
        file.as_file().set_len(1000).unwrap();
        contents.read(0, &mut [0; 1000]).unwrap();
        let message = contents.read(500, &mut [0; 1000]).unwrap_err().to_string();
        let problem = "was cut from 5000 to 1000 bytes while it was read; bytes 500 to 1500 are gone";
        assert_eq!(message, format!("{}: {problem}", file.path().display()));
    }

    #[test]
    fn a_missing_file_and_a_folder_are_errors_that_name_them() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        let message = Contents::open(&missing).unwrap_err().to_string();
        assert!(message.starts_with(&format!("{}: cannot open: ", missing.display())), "{message}");
        assert!(Contents::load(folder.path()).unwrap_err().to_string().ends_with(": is not a file"));
    }
}
