//! Parts written and read back.

use std::sync::Arc;

use arrow::compute::{concat_batches, take};
use arrow_array::{Array, ArrayRef, BinaryArray, StringViewArray, StructArray, UInt64Array, new_null_array};
use arrow_schema::DataType;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;
use crate::{
    output::pending_part::read_back,
    storage::folder::part_reader::PartReader,
    testing::parts::{manifest, model, output, sums},
    types::{
        Bits, QuantizeOptions,
        output::output_schema,
        quantized::{QUANTIZED, quantized_type},
    },
};

fn written(
    format: PartFormat,
    batches: &[RecordBatch],
    manifest: &Manifest,
) -> (Vec<u8>, WrittenPart, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("weights")).unwrap();
    let mut writer = PartWriter::create(folder.path(), manifest, 0).unwrap();
    for batch in batches {
        writer.write(batch).unwrap();
    }
    let part = writer.finish(&sums(batches)).unwrap();
    let pending = PendingPart::of_file(folder.path(), manifest, 0).unwrap();
    assert!(!pending.read_back(&part, |_| false).unwrap() && pending.read_back(&part, |_| true).unwrap());
    pending.commit().unwrap();
    assert_eq!(manifest.part_format(), Some(format));
    (std::fs::read(folder.path().join(&manifest.parts[0].file)).unwrap(), part, folder)
}

#[test]
fn a_part_reads_back_as_written() {
    let source = tempfile::tempdir().unwrap();
    let (model, parts) = model(source.path(), 1 << 20);
    let rows = output(&model, &parts[0], 1 << 20);
    let whole = concat_batches(&output_schema(), &rows).unwrap();
    for format in PartFormat::ALL.iter().copied() {
        let manifest = manifest(&model, &parts, format);
        let (_, part, folder) = written(format, &rows, &manifest);
        let path = folder.path().join(&manifest.parts[0].file);
        assert_eq!((part.bytes, part.digest.clone()), crate::storage::digest::digest_of(&path).unwrap());
        assert!(!path.with_extension(format!("{format}.tmp")).exists());

        let reader = PartReader::open(&path, format, &[0, 1, 2, 3, 4, 5, 6]).unwrap();
        let read: Vec<_> = reader.collect::<Result<_, _>>().unwrap();
        assert_eq!(concat_batches(&output_schema(), &read).unwrap(), whole);

        let tensor = |name: &str| part.reports.iter().find(|report| report.name == name).unwrap();
        let row = QuantizeOptions::new(Bits::Three).row_bytes(64) as u64;
        assert_eq!((tensor("layers.1.a.weight").rows, tensor("layers.1.a.weight").bytes_out), (40, 40 * row));
        assert_eq!((tensor("position_ids").bytes_out, tensor("void").rows), (64, 1));
    }
}

/// Returns the error when a file is read back as a part.
fn problem(path: &Path, format: PartFormat, meant: &[TensorReport]) -> String {
    read_back(path, format, meant, |_| true).unwrap_err().to_string()
}

#[test]
fn a_part_that_is_not_what_was_meant_is_refused_when_it_is_read_back() {
    let source = tempfile::tempdir().unwrap();
    let (model, parts) = model(source.path(), 1 << 20);
    let rows = output(&model, &parts[0], 1 << 20);
    for format in PartFormat::ALL.iter().copied() {
        let manifest = manifest(&model, &parts, format);
        let (bytes, part, folder) = written(format, &rows, &manifest);
        let path = folder.path().join(&manifest.parts[0].file);
        assert!(read_back(&path, format, &part.reports, |_| true).unwrap());
        // One bit of a code of the first quantized row.
        let row = rows.iter().find(|row| row.column(5).is_valid(0)).unwrap();
        let codes = row.column(5).as_struct().column_by_name("codes").unwrap();
        let codes = codes.as_binary::<i32>().value(0).to_owned();
        let at = bytes.windows(codes.len()).position(|window| window == codes).unwrap();
        let mut damaged = bytes.clone();
        damaged[at] ^= 1;
        std::fs::write(&path, damaged).unwrap();
        let message = problem(&path, format, &part.reports);
        assert!(
            message
                .ends_with("tensor 'layers.0.a.weight': verification failed: the file differs from what was written"),
            "{message}"
        );
        // A tensor too few, and one too many.
        std::fs::write(&path, bytes).unwrap();
        let message = problem(&path, format, &part.reports[..3]);
        assert!(message.ends_with("was read back, but not written"), "{message}");
        let more = [part.reports.as_slice(), &part.reports[..1]].concat();
        assert!(problem(&path, format, &more).ends_with("verification failed: the file differs from what was written"));
    }
}

#[test]
fn batches_cut_otherwise_give_the_same_file() {
    let source = tempfile::tempdir().unwrap();
    let (model, parts) = model(source.path(), 1 << 20);
    let rows = output(&model, &parts[0], 1 << 20);
    let whole = concat_batches(&output_schema(), &rows).unwrap();
    for format in PartFormat::ALL.iter().copied() {
        let manifest = manifest(&model, &parts, format);
        let bytes = |batches: &[RecordBatch]| {
            let folder = tempfile::tempdir().unwrap();
            std::fs::create_dir(folder.path().join("weights")).unwrap();
            let mut writer = PartWriter::create(folder.path(), &manifest, 0).unwrap();
            for batch in batches {
                writer.write(batch).unwrap();
            }
            writer.finish(&HashMap::new()).unwrap().digest
        };
        let expected = bytes(&rows);
        assert_eq!(bytes(std::slice::from_ref(&whole)), expected);
        assert_eq!(bytes(&[whole.slice(0, 41), whole.slice(41, whole.num_rows() - 41)]), expected);
    }
}

/// Returns the same rows, with bytes under every null.
fn with_hidden_bytes(rows: &RecordBatch) -> RecordBatch {
    let mut columns = rows.columns().to_vec();
    let (quantized, data) = (columns[5].as_struct().clone(), columns[6].as_binary::<i32>());
    let bytes = (0..data.len()).map(|row| if data.is_valid(row) { data.value(row) } else { &[7; 300] });
    let (offsets, values, _) = BinaryArray::from_iter_values(bytes).into_parts();
    let hidden = BinaryArray::new(offsets, values, data.nulls().cloned());
    let shown = (0..quantized.len()).find(|row| quantized.is_valid(*row)).unwrap();
    let from = (0..quantized.len()).map(|row| if quantized.is_valid(row) { row } else { shown } as u64);
    let from = UInt64Array::from_iter_values(from);
    let (fields, fields_of, nulls) = quantized.into_parts();
    let fields_of = fields_of.iter().map(|field| take(field, &from, None).unwrap()).collect();
    columns[5] = Arc::new(StructArray::new(fields, fields_of, nulls));
    columns[6] = Arc::new(hidden);
    RecordBatch::try_new(output_schema(), columns).unwrap()
}

#[test]
fn bytes_under_nulls_are_not_written() {
    let source = tempfile::tempdir().unwrap();
    let (model, parts) = model(source.path(), 1 << 20);
    let clean = concat_batches(&output_schema(), &output(&model, &parts[0], 1 << 20)).unwrap();
    let hidden = with_hidden_bytes(&clean);
    assert_eq!(hidden, clean);
    for format in PartFormat::ALL.iter().copied() {
        let manifest = manifest(&model, &parts, format);
        let bytes = |rows: &RecordBatch| written(format, std::slice::from_ref(rows), &manifest).0;
        let (hidden, clean) = (bytes(&hidden), bytes(&clean));
        assert_eq!(hidden.len(), clean.len(), "{format}");
        assert!(hidden == clean, "{format}");
    }
}

#[test]
fn rows_out_of_order_missing_or_too_many_are_errors() {
    let source = tempfile::tempdir().unwrap();
    let (model, parts) = model(source.path(), 1 << 20);
    let rows = output(&model, &parts[0], 1 << 20);
    let manifest = manifest(&model, &parts, PartFormat::Parquet);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("weights")).unwrap();
    let writer = || PartWriter::create(folder.path(), &manifest, 0).unwrap();
    let message = writer().write(&rows[1]).unwrap_err().to_string();
    assert!(message.contains("its row ") && message.contains(" belongs"), "{message}");
    let mut short = writer();
    short.write(&rows[0]).unwrap();
    let message = short.finish(&HashMap::new()).unwrap_err().to_string();
    assert!(message.ends_with("is missing from the part"), "{message}");
    let mut long = writer();
    for batch in &rows {
        long.write(batch).unwrap();
    }
    let message = long.write(&rows[0]).unwrap_err().to_string();
    assert!(message.ends_with("comes after the last of the part"), "{message}");
    assert!(!folder.path().join(&manifest.parts[0].file).exists());
    let message = PartWriter::create(folder.path(), &manifest, 1).map(drop).unwrap_err().to_string();
    assert!(message.ends_with("has 1 parts, no part 1"), "{message}");
}

#[test]
fn a_row_has_either_a_quantized_value_or_data() {
    let source = tempfile::tempdir().unwrap();
    let (model, parts) = model(source.path(), 1 << 20);
    let manifest = manifest(&model, &parts, PartFormat::Arrow);
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("weights")).unwrap();
    let good = &output(&model, &parts[0], 1 << 20)[0];
    let with = |index: usize, column: ArrayRef| {
        let mut columns = good.columns().to_vec();
        columns[index] = column;
        let batch = RecordBatch::try_new(output_schema(), columns).unwrap();
        PartWriter::create(folder.path(), &manifest, 0).unwrap().write(&batch).unwrap_err().to_string()
    };
    let (quantized, data) = (good.column(5).is_valid(0), good.column(6).is_valid(0));
    assert_ne!(quantized, data);
    let neither =
        with(if quantized { 5 } else { 6 }, new_null_array(good.column(if quantized { 5 } else { 6 }).data_type(), 1));
    assert!(neither.ends_with("row 0 has neither quantized nor data"), "{neither}");
    let both = if quantized {
        with(6, Arc::new(BinaryArray::from(vec![&b"x"[..]])))
    } else {
        let nulls = quantized_type();
        let DataType::Struct(fields) = &nulls else { unreachable!() };
        let columns = fields.iter().map(|field| new_null_array(field.data_type(), 1)).collect();
        with(5, Arc::new(StructArray::new(fields.clone(), columns, None)))
    };
    assert!(both.ends_with("row 0 has both quantized and data"), "{both}");
    let missing =
        RecordBatch::try_from_iter([("name", Arc::new(StringViewArray::from(vec!["a"])) as ArrayRef)]).unwrap();
    let message = PartWriter::create(folder.path(), &manifest, 0).unwrap().write(&missing).unwrap_err().to_string();
    assert!(message.contains("the column module is missing"), "{message}");
    assert!(good.column_by_name(QUANTIZED).is_some());
}

#[test]
fn repeated_values_are_dictionaries_and_codes_are_plain() {
    let source = tempfile::tempdir().unwrap();
    let (model, parts) = model(source.path(), 1 << 20);
    let manifest = manifest(&model, &parts, PartFormat::Parquet);
    let (_, _, folder) = written(PartFormat::Parquet, &output(&model, &parts[0], 1 << 20), &manifest);
    let file = File::open(folder.path().join(&manifest.parts[0].file)).unwrap();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let mut dictionaries = Vec::new();
    for column in builder.metadata().row_group(0).columns() {
        assert_eq!(column.compression(), Compression::UNCOMPRESSED);
        if column.dictionary_page_offset().is_some() {
            dictionaries.push(column.column_path().string());
        }
    }
    assert_eq!(
        dictionaries,
        ["name", "module", "dtype", "shape.list.item", "quantized.bits", "quantized.group_size", "quantized.length"]
    );
}

#[test]
fn a_file_with_other_columns_is_refused_and_the_column_named() {
    let source = tempfile::tempdir().unwrap();
    let (model, parts) = model(source.path(), 1 << 20);
    let rows = concat_batches(&output_schema(), &output(&model, &parts[0], 1 << 20)).unwrap();
    let path = source.path().join("part");
    let message = |format: PartFormat, rows: &RecordBatch| {
        let file = File::create(&path).unwrap();
        if format == PartFormat::Arrow {
            let mut writer = FileWriter::try_new(file, &rows.schema()).unwrap();
            writer.write(rows).unwrap();
            writer.finish().unwrap();
        } else {
            let mut writer = ArrowWriter::try_new(file, rows.schema(), None).unwrap();
            writer.write(rows).unwrap();
            writer.close().unwrap();
        }
        PartReader::open(&path, format, &[5, 6]).map(drop).unwrap_err().to_string()
    };
    for format in PartFormat::ALL.iter().copied() {
        for (number, field) in output_schema().fields().iter().enumerate() {
            let name = field.name();
            let mut others: Vec<usize> = (0..output_schema().fields().len()).collect();
            others.remove(number);
            let missing = message(format, &rows.project(&others).unwrap());
            assert_eq!(missing, format!("{}: is not a part: has no column {name}", path.display()));
            let numbers: ArrayRef = Arc::new(UInt64Array::from(vec![0; rows.num_rows()]));
            let schema = rows.schema();
            let columns = schema.fields().iter().zip(rows.columns()).map(|(field, column)| {
                (field.name().clone(), if field.name() == name { Arc::clone(&numbers) } else { Arc::clone(column) })
            });
            let other = message(format, &RecordBatch::try_from_iter(columns).unwrap());
            assert!(other.contains(&format!("is not a part: column {name} is UInt64; ")), "{other}");
            others.insert(usize::from(number == 0), number);
            let moved = message(format, &rows.project(&others).unwrap());
            assert!(moved.contains(" at place "), "{moved}");
        }
    }
}

#[test]
fn a_part_cut_anywhere_is_refused() {
    let source = tempfile::tempdir().unwrap();
    let (model, parts) = model(source.path(), 1 << 20);
    let rows = output(&model, &parts[0], 1 << 20);
    for format in PartFormat::ALL.iter().copied() {
        let manifest = manifest(&model, &parts, format);
        let (bytes, part, folder) = written(format, &rows, &manifest);
        let path = folder.path().join("cut");
        for length in (0..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
            std::fs::write(&path, &bytes[..length]).unwrap();
            let message = problem(&path, format, &part.reports);
            assert!(message.starts_with(&path.display().to_string()), "{message}");
        }
    }
}
