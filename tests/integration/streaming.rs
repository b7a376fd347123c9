//! Bounded memory, interruption and resuming, on models of several parts.

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    cli::{PROGRAM, Place, contents, fail, succeed},
    model::{f32_bytes, noise},
};

/// Writes the header of a model of `count` f32 matrices of 64 MiB, and gives the open file.
fn begin(path: &Path, count: usize) -> File {
    begin_with(path, count, 4096)
}

/// The same, of so many rows of 16 KiB each.
fn begin_with(path: &Path, count: usize, rows: usize) -> File {
    let bytes = rows * 4 * 4096;
    let tensors: Vec<_> = (0..count)
        .map(|i| {
            let (begin, end) = (i * bytes, (i + 1) * bytes);
            format!(r#""layers.{i}.w.weight":{{"dtype":"F32","shape":[{rows},4096],"data_offsets":[{begin},{end}]}}"#)
        })
        .collect();
    let mut header = format!("{{{}}}", tensors.join(",")).into_bytes();
    header.resize(header.len().next_multiple_of(8), b' ');
    let mut file = File::create(path).unwrap();
    file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
    file.write_all(&header).unwrap();
    file
}

/// A model of zeros that takes no room on disk.
fn sparse(path: &Path, count: usize) {
    let file = begin(path, count);
    let header = file.metadata().unwrap().len();
    file.set_len(header + count as u64 * (64 << 20)).unwrap();
}

/// A matrix of zeros of so many rows of 16 KiB, which takes no room on disk.
fn sparse_matrix(path: &Path, rows: usize) {
    let file = begin_with(path, 1, rows);
    let header = file.metadata().unwrap().len();
    file.set_len(header + rows as u64 * (16 << 10)).unwrap();
}

/// A model of 10 matrices, 640 MiB: five parts.
fn five_parts(path: &Path) {
    let mut file = begin(path, 10);
    let block = f32_bytes(&noise(1 << 20, 11));
    for _ in 0..160 {
        file.write_all(&block).unwrap();
    }
}

/// What the peaks of two runs over the same model differ by: the allocator's share, and which pages of the program are
/// touched.
const NOISE: u64 = 16_000_000;

fn peak_memory(summary: &str) -> u64 {
    let summary: serde_json::Value = serde_json::from_str(summary).unwrap();
    summary["peak_memory"].as_u64().unwrap()
}

#[test]
fn the_peak_of_gigabytes_is_small_and_does_not_grow() {
    let place = Place::new();
    let out = place.text("out");
    for more in [&[][..], &["--no-check"]] {
        let peaks: Vec<u64> = [16, 64]
            .into_iter()
            .map(|count| {
                let model = place.text("model.safetensors");
                sparse(&place.path("model.safetensors"), count);
                let options = ["--bits", "2", "--method", "minmax", "--threads", "2", "--overwrite", "--json"];
                peak_memory(&succeed(&[&["quantize", &model, "--output", &out], options.as_slice(), more].concat()))
            })
            .collect();
        let (one, four) = (peaks[0], peaks[1]);
        assert!(four < 150_000_000 && four < one + NOISE, "1 GiB peaks at {one}, 4 GiB at {four}, {more:?}");
    }
}

#[test]
fn a_row_of_a_gigabyte_is_copied_in_pieces() {
    let place = Place::new();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    fs::write(place.path("config.json"), "{}").unwrap();
    let vector = |elements: u64| {
        let mut header =
            format!(r#"{{"v":{{"dtype":"F32","shape":[{elements}],"data_offsets":[0,{}]}}}}"#, 4 * elements);
        header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
        let mut file = File::create(place.path("model.safetensors")).unwrap();
        file.write_all(&(header.len() as u64).to_le_bytes()).unwrap();
        file.write_all(header.as_bytes()).unwrap();
        file.set_len(8 + header.len() as u64 + 4 * elements).unwrap();
    };
    let run =
        ["quantize", &model, "--output", &out, "--overwrite", "--threads", "1", "--memory-limit", "250MB", "--json"];
    vector(250_000_000);
    for format in ["parquet", "arrow", "safetensors", "gguf"] {
        let peak = peak_memory(&succeed(&[run.as_slice(), &["--format", format]].concat()));
        assert!(peak < 200_000_000, "{format}: {peak}");
    }
    // A number that has no divisors: it takes more than is allowed, and that is said.
    vector(250_000_003);
    let error = fail(1, &run);
    assert!(error.contains("memory limit of 250000000 bytes is too small"), "{error}");
}

#[test]
fn streaming_peaks_below_half_of_batch() {
    let place = Place::new();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    sparse(&place.path("model.safetensors"), 8);
    let run = ["quantize", &model, "--output", &out, "--bits", "4", "--method", "minmax", "--overwrite", "--json"];
    let peak = |more: &[&str]| peak_memory(&succeed(&[run.as_slice(), more].concat()));
    let (streaming, batch) = (peak(&[]), peak(&["--batch"]));
    assert!(batch > 8 * (64 << 20), "{batch}");
    assert!(2 * streaming < batch, "streaming peaks at {streaming}, batch at {batch}");
}

#[test]
fn the_peak_of_formats_for_engines_is_small_and_does_not_grow() {
    let place = Place::new();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    fs::write(place.path("config.json"), "{}").unwrap();
    // Matrices of 64 MiB: as many as a search gets through in seconds, four times as many the second time.
    for (counts, options) in [
        ([8, 32], &["--format", "gguf", "--gguf-type", "Q8_0"][..]),
        ([4, 16], &["--format", "gguf", "--gguf-type", "Q4_K"]),
        ([4, 16], &["--format", "compressed-tensors", "--method", "minmax"]),
        ([4, 16], &["--format", "safetensors", "--method", "minmax"]),
        ([8, 32], &["--format", "comfy", "--comfy-type", "int8-rows"]),
    ] {
        let [few, many] = counts.map(|count| {
            sparse(&place.path("model.safetensors"), count);
            let run = ["quantize", &model, "--output", &out, "--threads", "2", "--json"];
            let peak = peak_memory(&succeed(&[run.as_slice(), options].concat()));
            fs::remove_dir_all(place.path("out")).unwrap();
            peak
        });
        assert!(many < 150_000_000 && many < few + NOISE, "{options:?}: {counts:?} matrices peak at {few} and {many}");
    }
}

#[test]
fn the_peak_of_comparing_does_not_grow_with_a_tensor() {
    let place = Place::new();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    let peaks = [4096, 4 * 4096].map(|rows| {
        sparse_matrix(&place.path("model.safetensors"), rows);
        succeed(&["quantize", &model, "--output", &out, "--bits", "4", "--method", "minmax", "--overwrite"]);
        [[&model, &out], [&out, &model], [&model, &model]]
            .map(|[a, b]| peak_memory(&succeed(&["compare", a, b, "--threads", "2", "--json"])))
    });
    let [small, large] = peaks;
    for (small, large) in small.into_iter().zip(large) {
        // How the pieces of two threads fall together moves a peak by some 35 MB; whole tensors would by 400 at least.
        assert!(large < small + 4 * NOISE, "64 MiB peak at {small}, 256 MiB at {large}");
    }
}

#[test]
fn a_tensor_compares_to_the_same_bits_on_any_number_of_threads() {
    let place = Place::new();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    begin_with(&place.path("model.safetensors"), 1, 3000).write_all(&f32_bytes(&noise(3000 * 4096, 5))).unwrap();
    for format in ["parquet", "arrow"] {
        let run = ["quantize", &model, "--output", &out, "--method", "minmax", "--format", format];
        let summary = succeed(&[run.as_slice(), &["--overwrite", "--json"]].concat());
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        let [one, three] = ["1", "3"].map(|threads| {
            let compared = succeed(&["compare", &model, &out, "--threads", threads, "--json"]);
            serde_json::from_str::<serde_json::Value>(&compared).unwrap()
        });
        assert_eq!((&one["tensors"], &one["total"]), (&three["tensors"], &three["total"]), "{format}");
        // The run measured the same rows in parts of its own.
        let ratios = [&summary, &one["total"]].map(|figures| figures["sqnr_db"].as_f64().unwrap());
        assert!((ratios[0] - ratios[1]).abs() < 1e-9, "{format}: {ratios:?}");
        let largest = [&summary, &one["total"]].map(|figures| figures["max_abs_error"].as_f64().unwrap());
        assert_eq!(largest[0].to_bits(), largest[1].to_bits(), "{format}");
    }
}

#[test]
fn a_memory_limit_is_kept_or_refused() {
    let place = Place::new();
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    sparse(&place.path("model.safetensors"), 16);
    let run = ["quantize", &model, "--output", &out, "--bits", "2", "--method", "minmax", "--threads", "8", "--json"];
    let peak = peak_memory(&succeed(&[run.as_slice(), &["--memory-limit", "300MB"]].concat()));
    assert!(peak < 300_000_000, "{peak}");
    let error = fail(1, &[run.as_slice(), &["--overwrite", "--memory-limit", "10MB"]].concat());
    assert!(error.contains("memory limit of 10000000 bytes is too small"), "{error}");
}

fn start(model: &str, out: &str) -> Child {
    Command::new(PROGRAM)
        .args(["quantize", model, "--output", out, "--threads", "1"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// Waits until `count` parts are whole.
fn wait_for_parts(partial: &Path, count: usize) {
    let started = Instant::now();
    loop {
        let entries = fs::read_dir(partial.join("parts")).into_iter().flatten();
        let whole = entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|e| e == "json"));
        if whole.count() >= count {
            return;
        }
        assert!(started.elapsed() < Duration::from_mins(2), "no part was finished");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_killed_run_goes_on_to_the_same_bytes() {
    let place = Place::new();
    five_parts(&place.path("model.safetensors"));
    let (model, whole, out) = (place.text("model.safetensors"), place.text("whole"), place.text("out"));
    succeed(&["quantize", &model, "--output", &whole]);
    for parts in [1, 3] {
        let mut child = start(&model, &out);
        wait_for_parts(&place.path("out.partial"), parts);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!place.path("out").exists());
        let error = fail(1, &["quantize", &model, "--output", &out]);
        assert!(error.contains("out.partial") && error.contains("resume"), "{error}");
        let error = fail(1, &["quantize", &model, "--output", &out, "--bits", "8", "--resume"]);
        assert!(error.contains("cannot be resumed"), "{error}");
        let summary = succeed(&["quantize", &model, "--output", &out, "--resume", "--json"]);
        let summary: serde_json::Value = serde_json::from_str(&summary).unwrap();
        assert!(summary["resumed_parts"].as_u64().unwrap() >= parts as u64);
        assert!(contents(&place.path("out")) == contents(&place.path("whole")), "killed after {parts} parts");
        fs::remove_dir_all(place.path("out")).unwrap();
    }
}

/// Changes one byte of the data of a file of [`five_parts`], where no sample of its digest is taken.
fn edit(path: &Path, at: u64) {
    use std::os::unix::fs::FileExt;
    let file = File::options().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 1], at).unwrap();
}

#[cfg(unix)]
#[test]
fn a_source_that_was_edited_after_a_kill_is_not_resumed() {
    const CHANGED: &str = "model.safetensors: has changed since the run began to read it; begin again with --overwrite";
    let place = Place::new();
    let path = place.path("model.safetensors");
    five_parts(&path);
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    let resume = ["quantize", &model, "--output", &out, "--resume"];
    let mut child = start(&model, &out);
    wait_for_parts(&place.path("out.partial"), 1);
    child.kill().unwrap();
    child.wait().unwrap();
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let set_back = || File::options().write(true).open(&path).unwrap().set_modified(modified).unwrap();

    edit(&path, (1 << 20) + 77_777);
    let error = fail(1, &resume);
    assert!(error.ends_with(&format!("{CHANGED}\n")), "{error}");
    // Nothing but the digest of the rows tells this one.
    set_back();
    let error = fail(1, &resume);
    assert!(error.ends_with(&format!("{CHANGED}\n")), "{error}");
    // A copy in its place has another number, whatever its time.
    let bytes = fs::read(&path).unwrap();
    fs::rename(&path, place.path("old")).unwrap();
    fs::write(&path, bytes).unwrap();
    set_back();
    assert!(fail(1, &resume).ends_with(&format!("{CHANGED}\n")));
    fs::rename(place.path("old"), &path).unwrap();

    edit(&path, (1 << 20) + 77_777);
    set_back();
    let summary: serde_json::Value = serde_json::from_str(&succeed(&[&resume[..], &["--json"]].concat())).unwrap();
    assert!(summary["resumed_parts"].as_u64().unwrap() >= 1);
}

/// Does something to the model when the run is through the first rows.
struct Editor<'a>(&'a Path, Edit, std::sync::Once);

type Edit = fn(&Path);

impl arrow_quant::run::progress::Progress for Editor<'_> {
    fn start(&self, _: arrow_quant::run::progress::Pass, _: u64) {}

    fn advance(&self, _: u64) {
        self.2.call_once(|| self.1(self.0));
    }

    fn finish(&self) {}
}

#[cfg(unix)]
#[test]
fn a_source_that_is_edited_while_it_is_read_is_an_error_that_names_it() {
    let place = Place::new();
    let path = place.path("model.safetensors");
    five_parts(&path);
    let out = place.path("out");
    let cut = |path: &Path| File::options().write(true).open(path).unwrap().set_len(1 << 20).unwrap();
    let edits: [(&str, Edit, &str); 3] = [
        ("parquet", |path| edit(path, 600 << 20), "has changed since the run began"),
        ("safetensors", |path| edit(path, 600 << 20), "has changed since the run began"),
        ("parquet", cut, "was cut from 671089"),
    ];
    for (format, edit, expected) in edits {
        let options = [path.as_os_str(), "--output".as_ref(), out.as_os_str(), "--format".as_ref(), format.as_ref()];
        let options: Vec<_> = options.into_iter().chain(["--overwrite".as_ref()]).map(ToOwned::to_owned).collect();
        let editor = Editor(&path, edit, std::sync::Once::new());
        let error = arrow_quant::cli::quantize(&options, &editor, &arrow_quant::run::Cancel::new(false)).unwrap_err();
        assert!(error.to_string().contains(&format!("model.safetensors: {expected}")), "{error}");
        assert!(!out.exists());
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_stops_within_a_second_and_leaves_nothing_whole() {
    let place = Place::new();
    five_parts(&place.path("model.safetensors"));
    let (model, out) = (place.text("model.safetensors"), place.text("out"));
    let child = start(&model, &out);
    wait_for_parts(&place.path("out.partial"), 1);
    let interrupted = Instant::now();
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    // Other tests run beside this one: the bound is looser than the second that an idle machine keeps.
    assert!(interrupted.elapsed() < Duration::from_secs(5), "{:?}", interrupted.elapsed());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("interrupted") && stderr.contains("--resume"), "{stderr}");
    assert!(!place.path("out").exists());
    succeed(&["quantize", &model, "--output", &out, "--resume"]);
}
