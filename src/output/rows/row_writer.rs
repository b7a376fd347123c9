//! Files whose layout is known: rows are written in place, in any order, by any number of threads.

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{Array, BinaryArray, RecordBatch, StringViewArray, cast::AsArray, types::Int64Type};

use crate::{
    output::{
        parts::row_order::RowOrder,
        pending_part::{PendingPart, WrittenPart},
    },
    storage::{
        atomic_file::write_renamed,
        error::IoError,
        file_layout::Layout,
        folder::{
            manifest::{FileEntry, Manifest},
            tensor_report::TensorReport,
        },
        row_layout::Order,
    },
    types::{
        ErrorSums,
        weights::{CHANNEL, NAME},
    },
};

/// `encoded`: the row as it is stored.
pub const ENCODED: &str = "encoded";

/// The files of a layout in the making: each has its full length from the start and a name that ends in `.tmp`.
#[derive(Debug)]
pub struct RowFiles {
    layout: Arc<Layout>,
    folder: PathBuf,
    files: Vec<File>,
}

impl RowFiles {
    /// Makes the files, or where a run `resumes` opens those that it left, and writes what is known beforehand.
    ///
    /// # Errors
    /// Returns an error if a file cannot be created or written, or that of an interrupted run is gone.
    pub fn create(folder: &Path, layout: &Arc<Layout>, resumes: bool) -> Result<Self, IoError> {
        let mut files = Vec::with_capacity(layout.files.len());
        for planned in &layout.files {
            let (path, named) = (temporary(folder, &planned.name), folder.join(&planned.name));
            if named.exists() && !path.exists() {
                // The run was interrupted after it had given the files their names.
                fs::rename(&named, &path).map_err(IoError::system("rename", &named))?;
            }
            if resumes && fs::metadata(&path).map_or(0, |file| file.len()) != planned.bytes {
                let problem = "is gone or has another length; restart with `overwrite`";
                return Err(IoError::file(&path, problem));
            }
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path);
            let file = file.map_err(IoError::system("create", &path))?;
            file.set_len(planned.bytes).map_err(IoError::system("write", &path))?;
            for (start, bytes) in &planned.known {
                write_at(&file, bytes, *start).map_err(IoError::system("write", &path))?;
            }
            files.push(file);
        }
        Ok(Self { layout: Arc::clone(layout), folder: folder.to_owned(), files })
    }

    /// Begins to write the rows of a part of a manifest.
    ///
    /// # Errors
    /// Returns an error if the manifest has no such part.
    pub fn part(self: &Arc<Self>, manifest: &Manifest, number: usize) -> Result<RowWriter, IoError> {
        let part = manifest.part(&self.folder, number)?;
        let numbers = part.rows.iter().map(|(tensor, ..)| (manifest.tensors[*tensor].name.clone(), *tensor)).collect();
        let order = RowOrder::new(manifest, part);
        Ok(RowWriter { files: Arc::clone(self), order, numbers, held: None, reports: Vec::new() })
    }

    /// Returns a part whose rows are written: the files that they are in.
    ///
    /// # Errors
    /// Returns an error if the manifest has no such part.
    pub(crate) fn pending(&self, manifest: &Manifest, number: usize) -> Result<PendingPart, IoError> {
        let tensors = manifest.part(&self.folder, number)?.rows.iter().map(|(tensor, ..)| *tensor);
        let pieces = tensors.flat_map(|tensor| self.layout.pieces.get(tensor).into_iter().flatten());
        let files: BTreeSet<usize> = pieces.map(|piece| piece.file).collect();
        let path = |file: usize| temporary(&self.folder, &self.layout.files[file].name);
        Ok(PendingPart::Rows { files: files.into_iter().map(path).collect() })
    }

    /// Gives every file its name, and writes the small ones.
    ///
    /// # Errors
    /// Returns an error if the system refuses.
    pub fn finish(&self) -> Result<Vec<FileEntry>, IoError> {
        let mut entries = Vec::new();
        for (planned, file) in self.layout.files.iter().zip(&self.files) {
            let (from, to) = (temporary(&self.folder, &planned.name), self.folder.join(&planned.name));
            file.sync_all().map_err(IoError::system("write", &from))?;
            fs::rename(&from, &to).map_err(IoError::system("rename into place", &to))?;
            entries.push(FileEntry { file: planned.name.clone(), bytes: planned.bytes, digest: String::new() });
        }
        for (name, bytes) in &self.layout.texts {
            write_renamed(&self.folder.join(name), bytes)?;
            entries.push(FileEntry { file: name.clone(), bytes: bytes.len() as u64, digest: String::new() });
        }
        Ok(entries)
    }
}

/// Writes the rows of one part.
pub struct RowWriter {
    files: Arc<RowFiles>,
    order: RowOrder,
    numbers: HashMap<String, usize>,
    held: Option<Held>,
    reports: Vec<TensorReport>,
}

/// Rows of one tensor that are not written yet, because others belong into the same bytes.
struct Held {
    tensor: usize,
    rows: Range<usize>,
    whole: Vec<u8>,
}

impl RowWriter {
    /// Writes rows: columns `name`, `channel` and `encoded` of a batch. They come in the order of the part; how they are
    /// cut into batches makes no difference.
    ///
    /// # Errors
    /// Returns an error if a column is missing or of another type, a row is not the one that comes next or has not the
    /// bytes that its place has, or a file cannot be written.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), IoError> {
        let (names, channels, encoded) =
            columns(batch).map_err(|problem| IoError::file(&self.files.folder, problem))?;
        let mut start = 0;
        while start < batch.num_rows() {
            let name = names.value(start);
            let end = (start + 1..batch.num_rows()).find(|row| names.value(*row) != name).unwrap_or(batch.num_rows());
            for row in start..end {
                self.order.next(&self.files.folder, name, channels.value(row))?;
                if encoded.is_null(row) {
                    let problem = format!("its row {} has no value in column 'encoded'", channels.value(row));
                    return Err(IoError::tensor(&self.files.folder, name, problem));
                }
            }
            let tensor = self.numbers.get(name).copied();
            let tensor = tensor.ok_or_else(|| IoError::tensor(&self.files.folder, name, "is not in the part"))?;
            let first = channels.value(start) as usize;
            self.add(name, tensor, first..first + end - start, &encoded.slice(start, end - start))?;
            start = end;
        }
        Ok(())
    }

    /// Returns the rows of one tensor, in order.
    fn add(&mut self, name: &str, tensor: usize, rows: Range<usize>, encoded: &BinaryArray) -> Result<(), IoError> {
        let pieces = self.files.layout.pieces.get(tensor).map_or(&[][..], Vec::as_slice);
        let stride: usize = pieces.iter().map(|piece| piece.row_bytes).sum();
        let offsets = encoded.value_offsets();
        if !pieces.is_empty() && offsets.windows(2).any(|pair| (pair[1] - pair[0]) as usize != stride) {
            let problem = format!("a row has other than the {stride} bytes of its place");
            return Err(IoError::tensor(&self.files.folder, name, problem));
        }
        match self.reports.last_mut().filter(|report| report.name == name) {
            Some(report) => report.rows += rows.len() as u64,
            None => self.reports.push(TensorReport::empty(name.to_owned(), rows.len())),
        }
        let whole = &encoded.values()[offsets[0] as usize..offsets[rows.len()] as usize];
        let rows_together = pieces.iter().map(|piece| piece.order.rows_together()).max().unwrap_or(1);
        if rows_together == 1 {
            return self.put(tensor, rows, whole);
        }
        let continues = self.held.as_ref().is_some_and(|held| held.tensor == tensor && held.rows.end == rows.start);
        if !continues {
            self.release()?;
        }
        let held = self.held.get_or_insert_with(|| Held { tensor, rows: rows.start..rows.start, whole: Vec::new() });
        held.whole.extend_from_slice(whole);
        held.rows.end = rows.end;
        let together = held.rows.len() / rows_together * rows_together;
        if together > 0 {
            let rest = held.whole.split_off(together * stride);
            let whole = std::mem::replace(&mut held.whole, rest);
            let ready = held.rows.start..held.rows.start + together;
            held.rows.start = ready.end;
            self.put(tensor, ready, &whole)?;
        }
        Ok(())
    }

    /// Writes what is held: no more rows of its tensor come in this part.
    fn release(&mut self) -> Result<(), IoError> {
        match self.held.take() {
            Some(held) if !held.rows.is_empty() => self.put(held.tensor, held.rows, &held.whole),
            _ => Ok(()),
        }
    }

    fn put(&mut self, tensor: usize, rows: Range<usize>, whole: &[u8]) -> Result<(), IoError> {
        let files = Arc::clone(&self.files);
        let pieces = files.layout.pieces.get(tensor).map_or(&[][..], Vec::as_slice);
        let stride: usize = pieces.iter().map(|piece| piece.row_bytes).sum();
        let mut offset = 0;
        for piece in pieces {
            let gathered;
            let shares = if piece.row_bytes == stride && piece.order == Order::Rows {
                whole
            } else {
                gathered = piece.gather(whole, stride, offset);
                &gathered
            };
            offset += piece.row_bytes;
            let path = || temporary(&files.folder, &files.layout.files[piece.file].name);
            let write = |shares: &[u8], start: usize| {
                let written = write_at(&files.files[piece.file], shares, start as u64);
                written.map_err(|error| IoError::system("write", &path())(error))
            };
            if matches!(piece.order, Order::Interleaved { .. }) {
                for (row, share) in rows.clone().zip(shares.chunks_exact(piece.row_bytes.max(1))) {
                    write(share, piece.start + piece.bytes(piece.order.position(row)))?;
                }
            } else {
                write(shares, piece.range(&rows).start)?;
            }
            if let Some(report) =
                self.reports.iter_mut().rev().find(|report| self.numbers[report.name.as_str()] == tensor)
            {
                report.bytes_out += shares.len() as u64;
            }
        }
        Ok(())
    }

    /// Completes the part, but for the wait for the disk.
    ///
    /// # Errors
    /// Returns an error if rows are missing, or a file cannot be written.
    pub fn finish(mut self, errors: &HashMap<String, ErrorSums>) -> Result<WrittenPart, IoError> {
        self.order.finish(&self.files.folder)?;
        self.release()?;
        for report in &mut self.reports {
            report.errors = errors.get(&report.name).copied();
        }
        Ok(WrittenPart {
            bytes: 0,
            digest: String::new(),
            source: String::new(),
            checked: false,
            reports: self.reports,
        })
    }
}

fn columns(
    batch: &RecordBatch,
) -> Result<(&StringViewArray, &arrow_array::PrimitiveArray<Int64Type>, &BinaryArray), String> {
    let column = |name: &str| batch.column_by_name(name).ok_or_else(|| format!("the rows have no column {name}"));
    let wrong = |name: &str| format!("the column {name} of the rows is of another type");
    Ok((
        column(NAME)?.as_string_view_opt().ok_or_else(|| wrong(NAME))?,
        column(CHANNEL)?.as_primitive_opt().ok_or_else(|| wrong(CHANNEL))?,
        column(ENCODED)?.as_binary_opt::<i32>().ok_or_else(|| wrong(ENCODED))?,
    ))
}

/// Returns the name of a file until every row is in it.
fn temporary(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.tmp"))
}

#[cfg(unix)]
fn write_at(file: &File, bytes: &[u8], start: u64) -> std::io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, start)
}

#[cfg(windows)]
fn write_at(file: &File, mut bytes: &[u8], mut start: u64) -> std::io::Result<()> {
    while !bytes.is_empty() {
        let written = std::os::windows::fs::FileExt::seek_write(file, bytes, start)?;
        if written == 0 {
            return Err(std::io::ErrorKind::WriteZero.into());
        }
        bytes = &bytes[written..];
        start += written as u64;
    }
    Ok(())
}
