//! The files of an export: what is known of them beforehand, and the places left for rows.

use super::row_layout::Piece;

/// The files that an export makes, and where each row goes.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    /// The files that hold rows.
    pub files: Vec<PlannedFile>,
    /// For each tensor of the model, in its order, where the shares of its encoded rows go. `None` means that it is left out.
    pub pieces: Vec<Vec<Piece>>,
    /// Small files, name and contents: an index, a configuration in place of that of the model.
    pub texts: Vec<(String, Vec<u8>)>,
}

/// A file that holds rows.
#[derive(Debug, Clone, Default)]
pub struct PlannedFile {
    /// Its name in the folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// The bytes that are known beforehand, and their places; the header first.
    pub known: Vec<(u64, Vec<u8>)>,
}

impl Layout {
    /// Returns the bytes that a tensor of `rows` rows takes, but for what is known beforehand.
    pub fn bytes_of(&self, tensor: usize, rows: usize) -> u64 {
        self.pieces.get(tensor).map_or(0, |pieces| pieces.iter().map(|piece| piece.bytes(rows) as u64).sum())
    }

    /// Returns the names of all files, the small ones included.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        let texts = self.texts.iter().map(|(name, _)| name.as_str());
        self.files.iter().map(|file| file.name.as_str()).chain(texts)
    }

    /// Returns the bytes of all files.
    pub fn total_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }
}
