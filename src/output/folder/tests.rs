//! Output folders made, interrupted, resumed and replaced.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use super::{place::exchange, unfinished::Placing, *};
use crate::{
    model::{Model, part::Part, side_files::SideFile},
    output::{part_writer::PartWriter, pending_part::PendingPart},
    testing::parts::{manifest, model, output},
    types::PartFormat,
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

    fn partial(&self) -> PathBuf {
        self.place.path().join("out.partial")
    }

    fn manifest(&self) -> Manifest {
        manifest(&self.model, &self.parts, PartFormat::Parquet)
    }

    fn begin(&self, existing: Existing) -> Result<OutputFolder, IoError> {
        OutputFolder::create(&self.target(), existing, self.manifest(), &Reads::default())
    }

    /// Makes a whole output with other options.
    fn old(&self) {
        let manifest = Manifest { sql: "SELECT 0".into(), ..self.manifest() };
        let mut folder =
            OutputFolder::create(&self.target(), Existing::Overwrite, manifest, &Reads::default()).unwrap();
        self.write(&mut folder, usize::MAX);
        folder.finish().unwrap();
    }

    /// Writes up to `most` of the parts that are missing.
    fn write(&self, folder: &mut OutputFolder, most: usize) {
        for number in folder.unfinished().into_iter().take(most) {
            let mut writer = PartWriter::create(folder.path(), &folder.manifest(), number).unwrap();
            for batch in output(&self.model, &self.parts[number], 1000) {
                writer.write(&batch).unwrap();
            }
            let written = writer.finish(&HashMap::new()).unwrap();
            PendingPart::of_file(folder.path(), &folder.manifest(), number).unwrap().commit().unwrap();
            folder.note(number, &written).unwrap();
            folder.add(number, written).unwrap();
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

    /// Returns every file of the output, with its bytes.
    fn contents(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let folders = [self.target(), self.target().join(WEIGHTS)];
        let entries = folders.iter().flat_map(|folder| fs::read_dir(folder).unwrap());
        let paths = entries.map(|entry| entry.unwrap().path());
        paths.filter(|path| path.is_file()).map(|path| (path.clone(), fs::read(path).unwrap())).collect()
    }
}

fn reads_of(paths: &[&Path]) -> Reads {
    Reads { paths: paths.iter().map(|path| path.to_path_buf()).collect(), sources: Vec::new() }
}

#[test]
fn a_folder_appears_when_it_is_complete() {
    let run = Run::new();
    let mut folder = run.begin(Existing::Refuse).unwrap();
    run.write(&mut folder, 1);
    let path = run.model.files()[0].path.clone();
    folder.copy(&SideFile { name: "model.safetensors".into(), path, bytes: 0 }).unwrap();
    assert_eq!(run.names(), ["out.partial"]);
    run.write(&mut folder, usize::MAX);
    folder.finish().unwrap();
    assert_eq!(run.names(), ["out"]);
    let manifest = Manifest::read(&run.target()).unwrap();
    assert!(manifest.complete && manifest.parts.iter().all(|part| part.bytes.is_some() && part.digest.is_some()));
    assert!(manifest.tensors.iter().all(|tensor| tensor.bytes.is_some()));
    let names = run.contents().into_keys().map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    let names: Vec<_> = names.filter(|name| !name.starts_with("part-")).collect();
    assert_eq!(names, ["arrow_quant.json", "model.safetensors"]);
}

#[test]
fn a_resumed_run_writes_what_is_missing_and_gives_the_same_bytes() {
    let (run, twin) = (Run::new(), Run::new());
    let mut folder = run.begin(Existing::Refuse).unwrap();
    run.write(&mut folder, 2);
    // A part that was being written, one that was not noted, one that is cut off and one that is damaged.
    drop(PartWriter::create(folder.path(), &folder.manifest(), 2).unwrap());
    drop(folder);
    let part = |number: usize| run.partial().join(format!("output/weights/part-{number:05}.parquet"));
    let bytes = fs::read(part(1)).unwrap();
    let message = run.begin(Existing::Refuse).unwrap_err().to_string();
    assert!(message.contains("out.partial: was left by a run that did not finish"), "{message}");
    let unfinished = |change: &dyn Fn()| {
        change();
        let folder = run.begin(Existing::Resume).unwrap();
        let unfinished = folder.unfinished();
        drop(folder);
        fs::write(part(1), &bytes).unwrap();
        unfinished
    };
    let from = |first| (first..run.parts.len()).collect::<Vec<_>>();
    assert_eq!(unfinished(&|| ()), from(2));
    assert_eq!(unfinished(&|| fs::write(part(1), &bytes[..bytes.len() - 9]).unwrap()), from(1));
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    assert_eq!(unfinished(&|| fs::write(part(1), &damaged).unwrap()), from(1));
    assert_eq!(unfinished(&|| fs::remove_file(part(1)).unwrap()), from(1));
    let note = run.partial().join("parts/part-00001.json");
    let noted = fs::read(&note).unwrap();
    assert_eq!(unfinished(&|| fs::write(&note, &noted[..noted.len() / 2]).unwrap()), from(1));
    let other = String::from_utf8(noted.clone()).unwrap().replacen("\"bytes_out\":", "\"bytes_out\":1", 1);
    assert_ne!(other.as_bytes(), noted);
    assert_eq!(unfinished(&|| fs::write(&note, &other).unwrap()), from(1));
    assert_eq!(unfinished(&|| fs::write(&note, &noted).unwrap()), from(2));
    assert_eq!(unfinished(&|| fs::remove_file(&note).unwrap()), from(1));

    let mut folder = run.begin(Existing::Resume).unwrap();
    run.write(&mut folder, usize::MAX);
    assert_eq!(folder.reports().map(|report| report.rows).sum::<u64>(), 83);
    let resumed = folder.finish().unwrap();
    let whole = twin.whole(Existing::Resume);
    assert_eq!(Manifest::read(&resumed).unwrap(), Manifest::read(&whole).unwrap());
    assert_eq!(fs::read_dir(resumed.join("weights")).unwrap().count(), run.parts.len());
}

#[test]
fn a_run_with_other_options_is_not_resumed() {
    let run = Run::new();
    drop(run.begin(Existing::Refuse).unwrap());
    let mut manifest = run.manifest();
    manifest.options.insert("bits".into(), 4.into());
    let message =
        OutputFolder::create(&run.target(), Existing::Resume, manifest, &Reads::default()).unwrap_err().to_string();
    assert!(message.ends_with("out.partial: cannot be resumed: `bits` was none, now it is 4"), "{message}");
}

#[test]
fn what_is_there_is_refused_or_replaced_at_the_end() {
    let run = Run::new();
    run.whole(Existing::Refuse);
    fs::write(run.target().join("report.parquet"), "old").unwrap();
    for (existing, expected) in [
        (Existing::Refuse, "out: exists already; give another output, or replace it with `overwrite`"),
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
    for name in ["notes.txt", "output/notes.txt", "output/weights/part-99999.parquet", "parts/notes.txt"] {
        let notes = run.partial().join(name);
        fs::write(&notes, "mine").unwrap();
        let message = run.begin(Existing::Overwrite).unwrap_err().to_string();
        assert!(message.contains(&format!("out.partial: holds 1 entry that no run wrote: '{name}'")), "{message}");
        assert_eq!(fs::read(&notes).unwrap(), b"mine");
        drop(run.begin(Existing::Force).unwrap());
        assert!(!notes.exists());
    }
    // It outlives the run.
    let notes = run.partial().join("notes.txt");
    fs::write(&notes, "mine").unwrap();
    run.whole(Existing::Resume);
    assert_eq!(run.names(), ["out", "out.partial"]);
    assert_eq!(fs::read(&notes).unwrap(), b"mine");
    // What is no folder of a run is nobody's to remove.
    for existing in [Existing::Refuse, Existing::Resume, Existing::Overwrite, Existing::Force] {
        let message = run.begin(existing).unwrap_err().to_string();
        assert!(message.contains("out.partial: is in the way"), "{message}");
    }
    fs::remove_dir_all(run.partial()).unwrap();
    fs::write(run.partial(), "mine").unwrap();
    assert!(run.begin(Existing::Force).unwrap_err().to_string().contains("out.partial: is in the way"));
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
            let message = OutputFolder::check_target(&out, existing, &reads_of(&[&read])).unwrap_err();
            let expected =
                format!("out: is not replaced: {} lies in it and is read; give another output", read.display());
            assert!(message.to_string().ends_with(&expected), "{message}");
        }
    }
    assert_eq!(fs::read(&model).unwrap(), b"weights");
    fs::remove_dir_all(model.parent().unwrap()).unwrap();
    // Nor is it where an unfinished run is removed.
    let model = place.join("out.partial/output/model.safetensors");
    fs::create_dir_all(model.parent().unwrap()).unwrap();
    fs::write(&model, "weights").unwrap();
    let message = OutputFolder::check_target(&out, Existing::Force, &reads_of(&[&model])).unwrap_err().to_string();
    assert!(message.contains("out.partial: is not replaced: "), "{message}");
    fs::remove_dir_all(run.partial()).unwrap();
    // An output in the folder of its source takes nothing from it.
    fs::write(place.join("model.safetensors"), "weights").unwrap();
    OutputFolder::check_target(&out, Existing::Overwrite, &reads_of(&[place, &place.join("model.safetensors")]))
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
        let message = OutputFolder::create(&file, existing, run.manifest(), &Reads::default()).unwrap_err().to_string();
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
        let message = OutputFolder::check_target(&target, Existing::Refuse, &Reads::default()).unwrap_err().to_string();
        assert!(message.ends_with("looks like a file name; `output` takes a folder (drop the extension)"), "{message}");
    }
    OutputFolder::check_target(&run.place.path().join("model-v1.5"), Existing::Refuse, &Reads::default()).unwrap();
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
fn whoever_waits_for_a_lock_that_goes_with_its_folder_gets_a_new_one() {
    let run = Run::new();
    let threads: Vec<_> = std::thread::scope(|scope| {
        let take = || {
            scope.spawn(|| {
                (0..200).filter(|_| Place::take(&run.target()).and_then(|(place, _)| place.release()).is_ok()).count()
            })
        };
        let threads = [take(), take(), take()];
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(threads.iter().sum::<usize>() > 0);
    assert!(run.names().is_empty());
    let (held, _) = Place::take(&run.target()).unwrap();
    let message = Place::take(&run.target()).map(drop).unwrap_err().to_string();
    assert!(message.ends_with("out.partial: is being written by another run"), "{message}");
    held.release().unwrap();
}

/// Stops a run that replaces an output, or makes the first, where `stop` says; gives what an undisturbed run makes.
fn stopped(run: &Run, replaces: bool, stop: Stop) -> BTreeMap<PathBuf, Vec<u8>> {
    run.whole(Existing::Overwrite);
    let whole = run.contents();
    if replaces {
        run.old();
        assert_ne!(run.contents(), whole);
    } else {
        fs::remove_dir_all(run.target()).unwrap();
    }
    let mut folder = run.begin(if replaces { Existing::Overwrite } else { Existing::Refuse }).unwrap();
    run.write(&mut folder, usize::MAX);
    folder.complete().unwrap();
    let OutputFolder { place, output, mut unfinished, mut manifest, .. } = folder;
    Arc::make_mut(&mut manifest).complete = true;
    manifest.write(&output).unwrap();
    stop(&place, &mut unfinished);
    // A run that is killed leaves its lock.
    drop(place);
    if run.partial().exists() {
        fs::write(run.partial().join("lock"), "").unwrap();
    }
    whole
}

type Stop = fn(&Place, &mut Unfinished);

/// Each place where a run can be killed while its output gets its place: whether there is one to be replaced, and whether the
/// new one has its place then.
const STOPS: [(bool, bool, Stop); 7] = [
    (false, false, |_, _| ()),
    (false, false, |place, run| place.announce(run).unwrap()),
    (false, true, |place, run| {
        place.announce(run).unwrap();
        fs::rename(place.output(), &place.target).unwrap();
    }),
    (true, false, |_, _| ()),
    (true, false, |place, run| place.announce(run).unwrap()),
    // In two steps.
    (true, false, |place, run| {
        place.announce(run).unwrap();
        fs::rename(&place.target, place.partial.join("replaced")).unwrap();
    }),
    (true, true, |place, run| {
        place.announce(run).unwrap();
        fs::rename(&place.target, place.partial.join("replaced")).unwrap();
        fs::rename(place.output(), &place.target).unwrap();
    }),
];

/// The same where the system can exchange folders.
#[cfg(target_os = "linux")]
const EXCHANGED: [(bool, bool, Stop); 3] = [
    (true, true, |place, run| {
        place.announce(run).unwrap();
        assert!(exchange(&place.output(), &place.target).unwrap());
    }),
    // Some of what was replaced is removed, or all of it.
    (true, true, |place, run| {
        place.announce(run).unwrap();
        assert!(exchange(&place.output(), &place.target).unwrap());
        fs::remove_file(place.output().join("weights/part-00000.parquet")).unwrap();
    }),
    (true, true, |place, run| {
        place.announce(run).unwrap();
        assert!(exchange(&place.output(), &place.target).unwrap());
        fs::remove_dir_all(place.output()).unwrap();
        fs::remove_dir_all(place.partial.join("parts")).unwrap();
    }),
];

#[cfg(not(target_os = "linux"))]
const EXCHANGED: [(bool, bool, Stop); 0] = [];

#[test]
fn a_run_that_is_killed_while_its_output_gets_its_place_is_finished_by_the_next() {
    for (number, (replaces, placed, stop)) in STOPS.into_iter().chain(EXCHANGED).enumerate() {
        for existing in [Existing::Resume, Existing::Overwrite, Existing::Refuse] {
            let run = Run::new();
            let whole = stopped(&run, replaces, stop);
            let case = format!("stop {number}, {existing:?}");
            match run.begin(existing) {
                Ok(mut folder) => {
                    assert_eq!(folder.unfinished().is_empty(), existing == Existing::Resume, "{case}");
                    run.write(&mut folder, usize::MAX);
                    folder.finish().unwrap();
                }
                Err(error) => {
                    let error = error.to_string();
                    let expected = match existing {
                        Existing::Resume => {
                            placed && error.ends_with("is complete already; there is nothing to resume")
                        }
                        Existing::Refuse if placed || replaces => error.contains("out: exists already"),
                        _ => error.contains("was left by a run that did not finish"),
                    };
                    assert!(expected, "{case}: {error}");
                }
            }
            if existing == Existing::Refuse && !placed {
                // The old whole, or nothing.
                assert_eq!(run.target().exists(), replaces, "{case}");
                assert!(!replaces || run.contents().len() == whole.len() && run.contents() != whole, "{case}");
            } else {
                assert!(run.contents() == whole, "{case}");
                assert_eq!(run.names(), ["out"], "{case}");
            }
        }
    }
}

#[test]
fn a_run_that_is_killed_before_it_has_begun_leaves_nothing_in_the_way() {
    for left in [&[][..], &["lock"], &["lock", "run.json.tmp"]] {
        for existing in [Existing::Refuse, Existing::Resume, Existing::Overwrite] {
            let run = Run::new();
            fs::create_dir(run.partial()).unwrap();
            for name in left {
                fs::write(run.partial().join(name), "").unwrap();
            }
            run.whole(existing);
            assert_eq!(run.names(), ["out"]);
        }
    }
    // Or before it has made its folders.
    for existing in [Existing::Resume, Existing::Overwrite] {
        let run = Run::new();
        drop(run.begin(Existing::Refuse).unwrap());
        fs::remove_dir(run.partial().join("parts")).unwrap();
        fs::remove_dir_all(run.partial().join("output")).unwrap();
        run.whole(existing);
        assert_eq!(run.names(), ["out"]);
    }
}

#[test]
fn an_output_that_came_while_a_run_was_unfinished_is_not_replaced_unless_the_run_was_told_to() {
    let run = Run::new();
    drop(run.begin(Existing::Resume).unwrap());
    fs::create_dir(run.target()).unwrap();
    let message = run.begin(Existing::Resume).unwrap_err().to_string();
    assert!(
        message.contains("out: came while a run that does not replace it was unfinished; move it away"),
        "{message}"
    );
    drop(run.begin(Existing::Overwrite).unwrap());
    run.whole(Existing::Resume);
    assert_eq!(run.names(), ["out"]);
    fs::remove_dir_all(run.target()).unwrap();
    // In the last moment, too.
    let mut folder = run.begin(Existing::Refuse).unwrap();
    run.write(&mut folder, usize::MAX);
    fs::create_dir(run.target()).unwrap();
    let message = folder.finish().unwrap_err().to_string();
    assert!(message.contains("out: exists already"), "{message}");
    fs::remove_dir(run.target()).unwrap();
    let mut folder = run.begin(Existing::Resume).unwrap();
    assert!(folder.unfinished().is_empty());
    run.write(&mut folder, usize::MAX);
    folder.finish().unwrap();
}

#[test]
fn folders_that_were_copied_while_one_got_its_place_do_not_pass_for_each_other() {
    let run = Run::new();
    let whole = stopped(&run, true, |place, unfinished| {
        place.announce(unfinished).unwrap();
        unfinished.placing = Some(Placing { inode: Some(u64::MAX) });
        unfinished.write(&place.partial).unwrap();
    });
    let mut folder = run.begin(Existing::Resume).unwrap();
    assert_eq!(folder.unfinished().len(), run.parts.len());
    run.write(&mut folder, usize::MAX);
    folder.finish().unwrap();
    assert!(run.contents() == whole);
    assert_eq!(run.names(), ["out"]);
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
        let message = OutputFolder::create(Path::new(target), Existing::Refuse, run.manifest(), &Reads::default())
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(target) && !message.contains('\n'), "{message}");
    }
}
