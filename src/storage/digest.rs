//! Digests of what is written and read: XXH3 of 128 bits, in hex as `xxh128sum` prints it.
//!
//! They tell damage and change, not forgery.

use std::{
    fmt,
    fs::File,
    io::{self, BufReader, Write},
    path::Path,
};

use xxhash_rust::xxh3::Xxh3Default;

use super::error::IoError;

/// A digest of bytes that come piece by piece.
#[derive(Default)]
pub(crate) struct Digest(Xxh3Default);

impl Digest {
    pub(crate) fn update(&mut self, bytes: &[u8]) -> &mut Self {
        self.0.update(bytes);
        self
    }

    /// Returns the digest of the bytes so far.
    pub(crate) fn hex(&self) -> String {
        format!("{:032x}", self.0.digest128())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Digest").field(&self.hex()).finish()
    }
}

/// A writer that counts and hashes what passes through it.
#[derive(Debug)]
pub(crate) struct Digesting<W> {
    inner: W,
    digest: Digest,
    bytes: u64,
}

impl<W: Write> Digesting<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self { inner, digest: Digest::default(), bytes: 0 }
    }

    /// Returns the writer, the bytes that it took and their digest.
    pub(crate) fn into_parts(self) -> (W, u64, String) {
        (self.inner, self.bytes, self.digest.hex())
    }
}

impl<W: Write> Write for Digesting<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.digest.update(&bytes[..written]);
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Bytes of a file that are read at once.
const BLOCK: usize = 64 << 10;

/// Returns the length and the digest of a file.
///
/// # Errors
/// Returns an error if it cannot be read.
pub(crate) fn digest_of(path: &Path) -> Result<(u64, String), IoError> {
    let file = File::open(path).map_err(IoError::system("open", path))?;
    let mut through = Digesting::new(io::sink());
    io::copy(&mut BufReader::with_capacity(BLOCK, file), &mut through).map_err(IoError::system("read", path))?;
    let (_, bytes, digest) = through.into_parts();
    Ok((bytes, digest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_xxh128sum_prints() {
        // printf '' | xxh128sum; printf abc | xxh128sum
        for (bytes, expected) in [("", "99aa06d3014798d86001c324468d497f"), ("abc", "06b05ab6733a618578af5f94892f3950")]
        {
            assert_eq!(Digest::default().update(bytes.as_bytes()).hex(), expected);
        }
        // python3 -c "import sys; sys.stdout.buffer.write(bytes(i % 251 for i in range(100002)))" | xxh128sum
        let bytes: Vec<u8> = (0..100_002u32).map(|i| (i % 251) as u8).collect();
        let mut digest = Digest::default();
        for piece in bytes.chunks(777) {
            digest.update(piece);
        }
        assert_eq!(digest.hex(), "1adae6c1c7e6a9df8ca7231ede587fd7");
    }

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
