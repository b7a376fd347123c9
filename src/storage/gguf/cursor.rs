//! Reading a header front to back without passing its end.

/// A place in the first bytes of a file.
pub struct Cursor<'a> {
    bytes: &'a [u8],
    /// The length of the file.
    length: usize,
    at: usize,
    lacking: Option<usize>,
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8], length: usize) -> Self {
        Self { bytes, length, at: 0, lacking: None }
    }

    /// Returns the length of the file.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Returns the end of the bytes that the file has, when more were asked for.
    pub fn lacking(&self) -> Option<usize> {
        self.lacking
    }

    /// Its place in the file.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Returns the bytes passed since it was at `start`.
    pub fn since(&self, start: usize) -> &'a [u8] {
        &self.bytes[start..self.at]
    }

    pub fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.bytes.len());
        let Some(end) = end else {
            self.lacking = self.at.checked_add(count).filter(|end| *end <= self.length);
            let left = self.length - self.at;
            return Err(format!("is cut off: {count} bytes are needed at byte {}, and {left} are left", self.at));
        };
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    pub fn u32(&mut self) -> Result<u32, String> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Result<u64, String> {
        self.array().map(u64::from_le_bytes)
    }

    pub fn string(&mut self) -> Result<&'a str, String> {
        let (at, length) = (self.at, self.u64()?);
        let length = usize::try_from(length)
            .map_err(|_| format!("has a string of {length} bytes at byte {at}, more than can be addressed"))?;
        std::str::from_utf8(self.take(length)?).map_err(|_| format!("the string at byte {at} is not UTF-8"))
    }
}
