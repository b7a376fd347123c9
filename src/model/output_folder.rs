//! Reading an output folder back.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use arrow_array::{Array, Int32Array, Int64Array, RecordBatch, StringViewArray};

use super::{labels::shapes, tensor::Tensor};
use crate::{
    storage::{
        digest::digest_of,
        error::IoError,
        folder::{manifest::Manifest, part_reader::PartReader},
        safetensors::header::Entry,
    },
    types::tensors::tensors_schema,
};

/// A quantized model: a complete output folder.
#[derive(Debug)]
pub struct QuantizedModel {
    folder: PathBuf,
    manifest: Manifest,
    tensors: Vec<Tensor>,
}

impl QuantizedModel {
    /// Opens an output folder. Every part is looked at, none is read.
    ///
    /// # Errors
    /// Returns an error if the manifest is missing, broken or that of an unfinished run; a part is missing or of
    /// another length than the manifest says; the parts do not hold every row of every tensor once.
    pub fn open(folder: &Path) -> Result<Self, IoError> {
        let manifest = Manifest::read(folder)?;
        if !manifest.complete {
            return Err(IoError::file(folder, "was left by a run that did not finish; resume it first"));
        }
        if manifest.part_format().is_none() {
            return Err(IoError::file(folder, format!("has no parts; its format is {}", manifest.output_format)));
        }
        Self::with(folder, manifest)
    }

    /// Returns the folder that a manifest, with the length of every part, describes.
    pub(crate) fn with(folder: &Path, manifest: Manifest) -> Result<Self, IoError> {
        for part in &manifest.parts {
            let path = folder.join(&part.file);
            let bytes = std::fs::metadata(&path).map_err(IoError::system("open", &path))?.len();
            if part.bytes != Some(bytes) {
                let expected = part.bytes.map_or("an unknown number".to_owned(), |bytes| bytes.to_string());
                return Err(IoError::file(&path, format!("has {bytes} bytes; the manifest says {expected}")));
            }
        }
        for entry in &manifest.files {
            entry.verify(folder)?;
        }
        let tensors = tensors(folder, &manifest)?;
        check_rows(folder, &manifest, &tensors)?;
        Ok(Self { folder: folder.to_owned(), manifest, tensors })
    }

    /// Returns the folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Returns the manifest.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Returns the number of parts.
    pub fn parts(&self) -> usize {
        self.manifest.parts.len()
    }

    /// Returns the tensors, in the order of the source. A tensor's range and file are those of no file: it has no bytes
    /// here.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// Returns the tensors table: `bytes` are those in the output, `file` is that of the part in which the tensor begins.
    ///
    /// # Errors
    /// Returns an error if there are more than `i32::MAX` dimensions in total, which no model has.
    pub fn tensors_batch(&self) -> Result<RecordBatch, IoError> {
        let tensors = &self.tensors;
        let mut files: HashMap<usize, &str> = HashMap::new();
        for part in &self.manifest.parts {
            for (tensor, ..) in &part.rows {
                files.entry(*tensor).or_insert(&part.file);
            }
        }
        let text = |text: fn(&Tensor) -> &str| -> Arc<dyn Array> {
            Arc::new(StringViewArray::from_iter_values(tensors.iter().map(text)))
        };
        let number = |number: fn(&Tensor) -> usize| -> Arc<dyn Array> {
            Arc::new(Int64Array::from_iter_values(tensors.iter().map(|tensor| number(tensor) as i64)))
        };
        let bytes = self.manifest.tensors.iter().map(|tensor| tensor.bytes.unwrap_or(0) as i64);
        let files = (0..tensors.len()).map(|tensor| files.get(&tensor).copied().unwrap_or_default());
        let batch = || {
            RecordBatch::try_new(
                tensors_schema(),
                vec![
                    text(|tensor| &tensor.name),
                    Arc::new(tensors.iter().map(|tensor| tensor.layer).collect::<Int32Array>()),
                    text(|tensor| &tensor.module),
                    text(|tensor| tensor.dtype.name()),
                    Arc::new(shapes(tensors.iter().map(|tensor| (tensor, 1)))?),
                    number(Tensor::elements),
                    Arc::new(Int64Array::from_iter_values(bytes)),
                    number(|tensor| tensor.rows),
                    number(|tensor| tensor.row_length),
                    Arc::new(StringViewArray::from_iter_values(files)),
                ],
            )
        };
        batch().map_err(IoError::arrow(&self.folder))
    }

    /// Returns the rows of a part as batches of [`output_schema`](crate::types::output::output_schema), of which
    /// `projection` gives columns by number, in ascending order. The part is read once in full to check its digest
    /// before.
    ///
    /// # Errors
    /// Returns an error if there is no such part or column, or the file is not the one that was written.
    pub fn scan(&self, part: usize, projection: &[usize]) -> Result<PartReader, IoError> {
        self.verify(part)?;
        self.open_part(part, projection)
    }

    /// Does the same as [`Self::scan`], without checking the digest.
    pub(crate) fn open_part(&self, part: usize, projection: &[usize]) -> Result<PartReader, IoError> {
        self.open_part_near(part, projection, 0)
    }

    /// Does the same as [`Self::open_part`], from a row of it on: see [`PartReader::open_near`].
    pub(crate) fn open_part_near(&self, part: usize, projection: &[usize], row: usize) -> Result<PartReader, IoError> {
        let path = self.folder.join(&self.manifest.parts[part].file);
        let format = self.manifest.part_format().ok_or_else(|| IoError::file(&path, "is no part"))?;
        PartReader::open_near(&path, format, projection, row)
    }

    /// Checks that a part's file is, byte for byte, the one that was written.
    ///
    /// # Errors
    /// Returns an error if there is no such part, or its file is missing or another.
    pub fn verify(&self, part: usize) -> Result<(), IoError> {
        let parts = self.manifest.parts.len();
        let entry = self
            .manifest
            .parts
            .get(part)
            .ok_or_else(|| IoError::file(&self.folder, format!("has {parts} parts, no part {part}")))?;
        let path = self.folder.join(&entry.file);
        let (bytes, digest) = digest_of(&path)?;
        if (Some(bytes), Some(digest)) == (entry.bytes, entry.digest.clone()) {
            return Ok(());
        }
        Err(IoError::file(&path, "is damaged: its digest is not the one in the manifest"))
    }
}

/// Returns the tensors of a manifest.
fn tensors(folder: &Path, manifest: &Manifest) -> Result<Vec<Tensor>, IoError> {
    let one = |entry: &crate::storage::folder::manifest::TensorEntry| {
        let refuse = |problem| IoError::tensor(folder, &entry.name, problem);
        let dtype = entry.dtype.parse().map_err(refuse)?;
        let elements = entry.shape.iter().try_fold(1usize, |product, dimension| product.checked_mul(*dimension));
        if elements.and_then(|elements| elements.checked_mul(64)).is_none() {
            return Err(refuse(format!("the shape {:?} has more elements than can be addressed", entry.shape)));
        }
        let entry = Entry { name: entry.name.clone(), dtype, shape: entry.shape.clone(), range: 0..0 };
        Ok(Tensor::new(entry, 0))
    };
    manifest.tensors.iter().map(one).collect()
}

/// Checks that the parts hold every row of every tensor once, in order.
fn check_rows(folder: &Path, manifest: &Manifest, tensors: &[Tensor]) -> Result<(), IoError> {
    let mut next = vec![0; tensors.len()];
    for (tensor, start, end) in manifest.parts.iter().flat_map(|part| &part.rows) {
        if next[*tensor] != *start {
            let problem = format!("its row {start} comes in the parts where row {} belongs", next[*tensor]);
            return Err(IoError::tensor(folder, &tensors[*tensor].name, problem));
        }
        next[*tensor] = *end;
    }
    match tensors.iter().zip(next).find(|(tensor, next)| tensor.rows != *next) {
        None => Ok(()),
        Some((tensor, next)) => {
            let problem = format!("the parts hold {next} of its {} rows", tensor.rows);
            Err(IoError::tensor(folder, &tensor.name, problem))
        }
    }
}

#[cfg(test)]
mod tests {
    use arrow::compute::concat_batches;
    use arrow_array::{cast::AsArray, types::Int64Type};

    use super::*;
    use crate::{
        model::{Model, part::Run, scan::rows_of},
        output::{
            existing::Existing, folder::OutputFolder, part_writer::PartWriter, pending_part::PendingPart, reads::Reads,
        },
        storage::folder::manifest::MANIFEST,
        testing::parts::{manifest, model, output, sums},
        types::{
            PartFormat,
            output::output_schema,
            weights::{DATA, WEIGHTS, weights_schema},
        },
    };

    /// An output folder, and the rows that went into it.
    fn written(format: PartFormat) -> (tempfile::TempDir, PathBuf, Vec<RecordBatch>) {
        let place = tempfile::tempdir().unwrap();
        let (model, parts) = model(place.path(), 4096);
        let manifest = manifest(&model, &parts, format);
        let mut folder =
            OutputFolder::create(&place.path().join("out"), Existing::Refuse, manifest, &Reads::default()).unwrap();
        let mut rows = Vec::new();
        for (number, part) in parts.iter().enumerate() {
            let mut writer = PartWriter::create(folder.path(), &folder.manifest(), number).unwrap();
            let batches = output(&model, part, 1000);
            for batch in &batches {
                writer.write(batch).unwrap();
            }
            let part = writer.finish(&sums(&batches)).unwrap();
            PendingPart::of_file(folder.path(), &folder.manifest(), number).unwrap().commit().unwrap();
            folder.add(number, part).unwrap();
            rows.push(concat_batches(&output_schema(), &batches).unwrap());
        }
        let target = folder.finish().unwrap();
        (place, target, rows)
    }

    #[test]
    fn a_folder_reads_back_as_written() {
        for format in PartFormat::ALL.iter().copied() {
            let (_place, folder, rows) = written(format);
            let model = QuantizedModel::open(&folder).unwrap();
            assert_eq!(model.parts(), rows.len());
            for (part, rows) in rows.iter().enumerate() {
                let read: Vec<_> = model.scan(part, &[0, 1, 2, 3, 4, 5, 6]).unwrap().map(Result::unwrap).collect();
                assert_eq!(&concat_batches(&output_schema(), &read).unwrap(), rows);
                let columns: Vec<_> = model.scan(part, &[0, 5]).unwrap().map(Result::unwrap).collect();
                assert_eq!(columns.iter().map(RecordBatch::num_rows).sum::<usize>(), rows.num_rows());
                assert_eq!(columns[0].column(1).data_type(), rows.column(5).data_type());
                assert_eq!(
                    model.scan(part, &[]).unwrap().map(|batch| batch.unwrap().num_rows()).sum::<usize>(),
                    rows.num_rows()
                );
            }
            let batch = model.tensors_batch().unwrap();
            let names: Vec<_> = batch.column(0).as_string_view().iter().flatten().collect();
            assert_eq!(names, ["position_ids", "layers.0.a.weight", "layers.1.a.weight", "norm.weight", "void"]);
            let bytes = batch.column(6).as_primitive::<Int64Type>();
            assert_eq!((bytes.value(0), bytes.value(3), bytes.value(4)), (64, 256, 0));
            assert_eq!(batch.column(9).as_string_view().value(0), format!("weights/part-00000.{format}"));
            assert!(model.scan(0, &[7]).is_err() && model.scan(0, &[1, 0]).is_err() && model.scan(99, &[0]).is_err());
        }
    }

    #[test]
    fn damage_to_any_part_is_named() {
        for format in PartFormat::ALL.iter().copied() {
            let (_place, folder, _) = written(format);
            let path = folder.join(format!("weights/part-00001.{format}"));
            let bytes = std::fs::read(&path).unwrap();
            let mut flipped = bytes.clone();
            flipped[bytes.len() / 2] ^= 1;
            std::fs::write(&path, flipped).unwrap();
            let message = QuantizedModel::open(&folder).unwrap().scan(1, &[0]).map(drop).unwrap_err().to_string();
            assert!(
                message
                    .ends_with(&format!("part-00001.{format}: is damaged: its digest is not the one in the manifest"))
            );
            std::fs::write(&path, &bytes[1..]).unwrap();
            let message = QuantizedModel::open(&folder).unwrap_err().to_string();
            assert!(message.contains(" bytes; the manifest says "), "{message}");
            std::fs::remove_file(&path).unwrap();
            let message = QuantizedModel::open(&folder).unwrap_err().to_string();
            assert!(message.contains(&format!("part-00001.{format}: cannot open: ")), "{message}");
        }
    }

    #[test]
    fn a_manifest_that_is_unfinished_or_lacks_rows_is_refused() {
        let (_place, folder, _) = written(PartFormat::Parquet);
        let good = Manifest::read(&folder).unwrap();
        let message = |change: &dyn Fn(&mut Manifest)| {
            let mut manifest = good.clone();
            change(&mut manifest);
            std::fs::write(folder.join(MANIFEST), serde_json::to_string(&manifest).unwrap()).unwrap();
            QuantizedModel::open(&folder).unwrap_err().to_string()
        };
        let unfinished = message(&|manifest| manifest.complete = false);
        assert!(unfinished.ends_with("did not finish; resume it first"), "{unfinished}");
        let missing = message(&|manifest| drop(manifest.parts.pop()));
        assert!(missing.contains("the parts hold ") && missing.ends_with(" rows"), "{missing}");
        let twice = message(&|manifest| manifest.parts[1].rows[0].1 = 0);
        assert!(twice.contains(" comes in the parts where row "), "{twice}");
        let shape = message(&|manifest| manifest.tensors[0].shape = vec![usize::MAX, 2]);
        assert!(shape.contains("more elements than can be addressed"), "{shape}");
        let nowhere = QuantizedModel::open(&folder.join("weights")).unwrap_err().to_string();
        assert!(nowhere.contains("arrow_quant.json: cannot read: "), "{nowhere}");
    }

    #[test]
    fn rows_that_are_shorter_than_the_manifest_says_are_named_before_memory_is_taken_for_them() {
        let (_place, folder, _) = written(PartFormat::Parquet);
        let good = Manifest::read(&folder).unwrap();
        for (tensor, column) in (0..4).flat_map(|tensor| [DATA, WEIGHTS].map(|column| (tensor, column))) {
            let mut manifest = good.clone();
            let rows = manifest.tensors[tensor].shape[0];
            manifest.tensors[tensor].shape = if manifest.tensors[tensor].shape.len() == 1 {
                vec![i32::MAX as usize / 8]
            } else {
                vec![rows, i32::MAX as usize / 8]
            };
            std::fs::write(folder.join(MANIFEST), serde_json::to_string(&manifest).unwrap()).unwrap();
            let model = Model::open(&folder).unwrap();
            let column = weights_schema().index_of(column).unwrap();
            let message = rows_of(&model, Run { tensor, rows: 0..1 }, &[column]).unwrap_err().to_string();
            let name = &manifest.tensors[tensor].name;
            assert!(message.contains(&format!("'{name}': row 0 has ")), "{message}");
            assert!(message.contains(&(i32::MAX / 8).to_string()), "{message}");
        }
    }
}
