//! Output folders made, interrupted, resumed and replaced.

use std::{collections::HashMap, sync::Arc};

use super::*;
use crate::{
    io::{
        Model, Part,
        output::{
            PartWriter,
            part::tests::{manifest, model, output},
        },
    },
    types::OutputFormat,
};

struct Run {
    _source: tempfile::TempDir,
    place: tempfile::TempDir,
    model: Arc<Model>,
    parts: Vec<Part>,
}

impl Run {
    fn new() -> Self {
        let source = tempfile::tempdir().unwrap();
        let (model, parts) = model(source.path(), 4096);
        assert!(parts.len() > 2);
        Self { _source: source, place: tempfile::tempdir().unwrap(), model, parts }
    }

    fn target(&self) -> PathBuf {
        self.place.path().join("out")
    }

    fn manifest(&self) -> Manifest {
        manifest(&self.model, &self.parts, OutputFormat::Parquet)
    }

    fn begin(&self, existing: Existing) -> Result<OutputFolder, IoError> {
        OutputFolder::create(&self.target(), existing, self.manifest(), &[])
    }

    /// Writes up to `most` of the parts that are missing.
    fn write(&self, folder: &mut OutputFolder, most: usize) {
        for number in folder.unfinished().into_iter().take(most) {
            let mut writer = PartWriter::create(folder.path(), folder.manifest(), number).unwrap();
            for batch in output(&self.model, &self.parts[number], 1000) {
                writer.write(&batch).unwrap();
            }
            folder.add(number, writer.finish(&HashMap::new()).unwrap().settle().unwrap()).unwrap();
        }
    }

    fn whole(&self, existing: Existing) -> PathBuf {
        let mut folder = self.begin(existing).unwrap();
        self.write(&mut folder, usize::MAX);
        folder.finish().unwrap()
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.place.path()).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

#[test]
fn a_folder_appears_when_it_is_complete() {
    let run = Run::new();
    let mut folder = run.begin(Existing::Refuse).unwrap();
    run.write(&mut folder, 1);
    folder.copy(&run.model.files()[0].path).unwrap();
    assert_eq!(run.names(), ["out.partial"]);
    run.write(&mut folder, usize::MAX);
    folder.finish().unwrap();
    assert_eq!(run.names(), ["out"]);
    let manifest = Manifest::read(&run.target()).unwrap();
    assert!(manifest.complete && manifest.parts.iter().all(|part| part.bytes.is_some() && part.digest.is_some()));
    assert!(manifest.tensors.iter().all(|tensor| tensor.bytes.is_some()));
    assert!(run.target().join("model.safetensors").is_file());
    assert!(!run.target().join(".lock").exists());
}

#[test]
fn a_resumed_run_writes_what_is_missing_and_gives_the_same_bytes() {
    let (run, other) = (Run::new(), Run::new());
    let mut folder = run.begin(Existing::Refuse).unwrap();
    run.write(&mut folder, 2);
    // A part that was being written, and one that is cut off.
    drop(PartWriter::create(folder.path(), folder.manifest(), 2).unwrap());
    let cut = folder.path().join(&folder.manifest().parts[1].file);
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 9]).unwrap();
    drop(folder);
    let message = run.begin(Existing::Refuse).unwrap_err().to_string();
    assert!(message.contains("out.partial: was left by a run that did not finish"), "{message}");

    let mut folder = run.begin(Existing::Resume).unwrap();
    assert_eq!(folder.unfinished(), (1..run.parts.len()).collect::<Vec<_>>());
    run.write(&mut folder, usize::MAX);
    assert_eq!(folder.reports().map(|report| report.rows).sum::<u64>(), 83);
    let resumed = folder.finish().unwrap();
    let whole = other.whole(Existing::Resume);
    assert_eq!(Manifest::read(&resumed).unwrap(), Manifest::read(&whole).unwrap());
    assert_eq!(fs::read_dir(resumed.join("weights")).unwrap().count(), run.parts.len());
}

#[test]
fn a_run_with_other_options_is_not_resumed() {
    let run = Run::new();
    drop(run.begin(Existing::Refuse).unwrap());
    let mut manifest = run.manifest();
    manifest.options.insert("bits".into(), 4.into());
    let message = OutputFolder::create(&run.target(), Existing::Resume, manifest, &[]).unwrap_err().to_string();
    assert!(message.ends_with("out.partial: cannot be resumed: option bits was none, now it is 4"), "{message}");
}

#[test]
fn what_is_there_is_refused_or_replaced_at_the_end() {
    let run = Run::new();
    run.whole(Existing::Refuse);
    fs::write(run.target().join("report.parquet"), "old").unwrap();
    for (existing, expected) in [
        (Existing::Refuse, "out: exists already; give another output, or replace it with --overwrite"),
        (Existing::Resume, "out: is complete already; there is nothing to resume"),
    ] {
        let message = run.begin(existing).unwrap_err().to_string();
        assert!(message.ends_with(expected), "{message}");
    }
    drop(run.begin(Existing::Overwrite).unwrap());
    let mut folder = run.begin(Existing::Overwrite).unwrap();
    run.write(&mut folder, usize::MAX);
    assert!(run.target().join("report.parquet").exists());
    folder.finish().unwrap();
    assert_eq!(run.names(), ["out"]);
    assert!(!run.target().join("report.parquet").exists());
}

#[test]
fn what_no_run_wrote_is_kept_unless_it_is_forced_out() {
    let run = Run::new();
    run.whole(Existing::Refuse);
    let out = run.target();
    fs::write(out.join("weights/mine.bin"), "mine").unwrap();
    let refused = |existing, expected: &str| {
        let message = run.begin(existing).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
        assert_eq!(run.names(), ["out"]);
    };
    refused(Existing::Overwrite, "out: holds 1 entry that no run wrote: 'weights/mine.bin'; move it away, or");
    // A folder that is called like a file of a run, and a folder with a model in it.
    fs::create_dir(out.join("model.safetensors")).unwrap();
    fs::create_dir_all(out.join("source/deep")).unwrap();
    fs::write(out.join("source/deep/model.safetensors"), "weights").unwrap();
    fs::write(out.join("config.json"), "{}").unwrap();
    refused(Existing::Overwrite, "out: holds 4 entries that no run wrote, such as 'config.json'; move it away, or");

    let mut folder = run.begin(Existing::Force).unwrap();
    run.write(&mut folder, usize::MAX);
    assert!(out.join("source/deep/model.safetensors").exists());
    folder.finish().unwrap();
    assert_eq!(run.names(), ["out"]);
    let names: Vec<_> = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() == 2 && !out.join("weights/mine.bin").exists(), "{names:?}");
}

#[test]
fn what_somebody_puts_into_the_output_during_a_run_is_kept() {
    let run = Run::new();
    run.whole(Existing::Refuse);
    let mut folder = run.begin(Existing::Overwrite).unwrap();
    run.write(&mut folder, usize::MAX);
    fs::write(run.target().join("notes.txt"), "mine").unwrap();
    let message = folder.finish().unwrap_err().to_string();
    assert!(message.contains("out: holds 1 entry that no run wrote: 'notes.txt'"), "{message}");
    assert_eq!(fs::read(run.target().join("notes.txt")).unwrap(), b"mine");
    assert!(Manifest::read(&run.target()).unwrap().complete);
}

#[test]
fn what_somebody_puts_into_an_unfinished_output_is_kept_unless_it_is_forced_out() {
    let run = Run::new();
    drop(run.begin(Existing::Refuse).unwrap());
    let notes = run.place.path().join("out.partial/notes.txt");
    fs::write(&notes, "mine").unwrap();
    let message = run.begin(Existing::Overwrite).unwrap_err().to_string();
    assert!(message.contains("out.partial: holds 1 entry that no run wrote: 'notes.txt'"), "{message}");
    assert_eq!(fs::read(&notes).unwrap(), b"mine");
    drop(run.begin(Existing::Force).unwrap());
    assert!(!notes.exists());
    // Without a manifest it is nobody's to remove.
    fs::remove_file(run.place.path().join("out.partial/arrow_quant.json")).unwrap();
    fs::write(&notes, "mine").unwrap();
    for existing in [Existing::Resume, Existing::Overwrite, Existing::Force] {
        let message = run.begin(existing).unwrap_err().to_string();
        assert!(message.ends_with("it has no arrow_quant.json, so it is no output folder"), "{message}");
    }
    assert!(notes.exists());
}

#[test]
fn the_output_of_a_version_that_listed_no_names_is_told_by_the_names_that_runs_give() {
    let run = Run::new();
    run.whole(Existing::Refuse);
    let old = Manifest { names: None, ..Manifest::read(&run.target()).unwrap() };
    old.write(&run.target()).unwrap();
    for name in ["config.json", "tokenizer.json", "report.parquet", "widths.parquet"] {
        fs::write(run.target().join(name), "").unwrap();
    }
    drop(run.begin(Existing::Overwrite).unwrap());
    fs::write(run.target().join("model.onnx"), "").unwrap();
    let message = run.begin(Existing::Overwrite).unwrap_err().to_string();
    assert!(message.contains("holds 1 entry that no run wrote: 'model.onnx'"), "{message}");
    // A manifest that cannot be read accounts for nothing.
    fs::write(run.target().join("arrow_quant.json"), "{}").unwrap();
    let message = run.begin(Existing::Overwrite).unwrap_err().to_string();
    let entries = run.parts.len() + 5;
    assert!(
        message.contains(&format!("holds {entries} entries that no run wrote, such as 'config.json'")),
        "{message}"
    );
    run.whole(Existing::Force);
}

#[test]
fn what_a_run_reads_is_never_replaced() {
    let run = Run::new();
    run.whole(Existing::Refuse);
    let (out, place) = (run.target(), run.place.path());
    let source = out.join("source");
    fs::create_dir(&source).unwrap();
    let model = source.join("model.safetensors");
    fs::write(&model, "weights").unwrap();
    let mut reads = vec![out.clone(), source, model.clone(), place.join("elsewhere/../out/source")];
    fs::create_dir(place.join("elsewhere")).unwrap();
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&model, place.join("elsewhere/linked.safetensors")).unwrap();
        std::os::unix::fs::symlink(&out, place.join("link")).unwrap();
        reads.extend([place.join("elsewhere/linked.safetensors"), place.join("link/source/model.safetensors")]);
    }
    for read in reads {
        for existing in [Existing::Refuse, Existing::Resume, Existing::Overwrite, Existing::Force] {
            let message = OutputFolder::check_target(&out, existing, std::slice::from_ref(&read)).unwrap_err();
            let expected =
                format!("out: is not replaced: {} lies in it and is read; give another output", read.display());
            assert!(message.to_string().ends_with(&expected), "{message}");
        }
    }
    assert_eq!(fs::read(&model).unwrap(), b"weights");
    fs::remove_dir_all(model.parent().unwrap()).unwrap();
    // Nor is it where an unfinished run, or what was replaced, is removed.
    for beside in ["out.partial", "out.replaced"] {
        let model = place.join(beside).join("model.safetensors");
        fs::create_dir(model.parent().unwrap()).unwrap();
        fs::write(&model, "weights").unwrap();
        let message = OutputFolder::check_target(&out, Existing::Force, &[model]).unwrap_err().to_string();
        assert!(message.contains(&format!("{beside}: is not replaced: ")), "{message}");
        fs::remove_dir_all(place.join(beside)).unwrap();
    }
    // An output in the folder of its source takes nothing from it.
    fs::write(place.join("model.safetensors"), "weights").unwrap();
    OutputFolder::check_target(&out, Existing::Overwrite, &[place.to_owned(), place.join("model.safetensors")])
        .unwrap();
}

#[test]
fn what_is_no_output_folder_is_never_removed() {
    let run = Run::new();
    fs::create_dir(run.target()).unwrap();
    fs::write(run.target().join("thesis.tex"), "").unwrap();
    let message = run.begin(Existing::Overwrite).unwrap_err().to_string();
    assert!(message.ends_with("out: is not overwritten: it has no arrow_quant.json, so it is no output folder"));
    let file = run.place.path().join("file");
    fs::write(&file, "").unwrap();
    for existing in [Existing::Refuse, Existing::Resume, Existing::Overwrite] {
        let message = OutputFolder::create(&file, existing, run.manifest(), &[]).unwrap_err().to_string();
        assert!(
            message.ends_with("file: is a file; the output is a folder that holds the weights and what goes with them")
        );
    }
    assert!(run.target().join("thesis.tex").exists() && file.exists());
}

#[test]
fn a_folder_is_not_called_like_a_file() {
    let run = Run::new();
    for name in ["model.gguf", "a.safetensors", "b.parquet"] {
        let target = run.place.path().join(name);
        let message = OutputFolder::check_target(&target, Existing::Refuse, &[]).unwrap_err().to_string();
        assert!(message.ends_with("give its name without the ending"), "{message}");
    }
    OutputFolder::check_target(&run.place.path().join("model-v1.5"), Existing::Refuse, &[]).unwrap();
}

#[test]
fn two_runs_do_not_write_one_folder() {
    let run = Run::new();
    let first = run.begin(Existing::Refuse).unwrap();
    for existing in [Existing::Resume, Existing::Overwrite] {
        let message = run.begin(existing).unwrap_err().to_string();
        assert!(message.ends_with("out.partial: is being written by another run"), "{message}");
    }
    drop(first);
    run.begin(Existing::Resume).unwrap();
}

#[test]
fn a_place_that_cannot_be_written_and_a_missing_part_are_errors() {
    let run = Run::new();
    let folder = run.begin(Existing::Refuse).unwrap();
    folder.check_space(1).unwrap();
    let message = folder.check_space(u64::MAX).unwrap_err().to_string();
    assert!(message.contains("needs about 18446744073709551615 bytes of space, and "), "{message}");
    let message = folder.finish().unwrap_err().to_string();
    assert!(message.ends_with("is not complete: part 0 is missing"), "{message}");
    for target in ["/no/such/folder/out", "/proc/out", "/"] {
        let message =
            OutputFolder::create(Path::new(target), Existing::Refuse, run.manifest(), &[]).unwrap_err().to_string();
        assert!(message.starts_with(target) && !message.contains('\n'), "{message}");
    }
}
