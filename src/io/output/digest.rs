//! Bytes written through a hasher.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
};

use crate::io::IoError;

/// A writer that counts and hashes what passes through it.
#[derive(Debug)]
pub struct Digesting<W> {
    inner: W,
    hasher: blake3::Hasher,
    bytes: u64,
}

impl<W: Write> Digesting<W> {
    pub fn new(inner: W) -> Self {
        Self { inner, hasher: blake3::Hasher::new(), bytes: 0 }
    }

    /// The writer, the bytes that it took and their BLAKE3 digest in hex.
    pub fn into_parts(self) -> (W, u64, String) {
        (self.inner, self.bytes, self.hasher.finalize().to_hex().to_string())
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// The length and the BLAKE3 digest, in hex, of a file.
///
/// # Errors
/// It cannot be read.
pub fn digest_of(path: &Path) -> Result<(u64, String), IoError> {
    let file = File::open(path).map_err(IoError::system("open", path))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).map_err(IoError::system("read", path))?;
    Ok((hasher.count(), hasher.finalize().to_hex().to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_has_the_digest_of_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut through = Digesting::new(file.reopen().unwrap());
        through.write_all(b"ab").unwrap();
        through.write_all(&vec![7; 100_000]).unwrap();
        through.flush().unwrap();
        let (_, bytes, digest) = through.into_parts();
        assert_eq!(digest_of(file.path()).unwrap(), (bytes, digest));
        assert_eq!(bytes, 100_002);
    }
}
