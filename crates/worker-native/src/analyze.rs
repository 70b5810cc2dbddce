//! `chaarfm-worker analyze`: analyses local files without a server.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Error, ErrorKind, Read, Seek, Write},
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use chaarfm_analysis::{Analysis, AudioError, Backend, Engine, Limits, Step};
use chaarfm_protocol::{
    Speeds,
    limits::{MAX_AUDIO_BYTES, MAX_AUDIO_SECONDS},
    text::printable,
};
use chaarfm_scratch::Scratch;
use indicatif::{ProgressBar, ProgressStyle};
use pollster::block_on;
use serde::Serialize;

use crate::{
    cli::AnalyzeArgs,
    devices::{self, DeviceChoice, Memory, Place, Plan},
    scratch,
};

/// Tags named in the summary for people.
const SHOWN_TAGS: usize = 5;

/// The file name that means standard input.
const STANDARD_INPUT: &str = "-";

/// Steps of the progress bar of one file.
const BAR_STEPS: u64 = 1000;

/// One line of `--json` for a file with a vector.
#[derive(Serialize)]
struct Line<'a> {
    file: &'a str,
    seconds: f64,
    patches: u32,
    model: &'a str,
    device: String,
    /// The measured speeds of the devices, where `auto` had to choose.
    speeds: Speeds,
    flags: Vec<String>,
    embedding: &'a [f32],
    tags: BTreeMap<&'a str, f32>,
    elapsed_ms: Milliseconds,
}

#[derive(Serialize)]
struct Milliseconds {
    decode: f64,
    analyse: f64,
    total: f64,
}

/// Analyses the files one after the other; a failed file does not stop the others. Exit code 1 if any failed.
pub(crate) fn run(args: &AnalyzeArgs, device: DeviceChoice) -> anyhow::Result<ExitCode> {
    let model = args.model;
    let plan = devices::plan(device, &Memory::of_user())?;
    // The files are analysed one after the other, so the faster device gets them all.
    let engine = match plan.engine(model) {
        Err(error) if plan.is_free => {
            eprint(&format!("on with the CPU: {error}"))?;
            Place::Cpu(Backend::Flex).engine(model)?
        }
        engine => engine?,
    };
    let mut failed = false;
    for path in &args.files {
        let start = Instant::now();
        let name = path.to_string_lossy();
        match analyse(&engine, path, &name) {
            Ok(analysis) if args.json => print(&json(&engine, &plan, &name, &analysis, start.elapsed())?)?,
            Ok(analysis) => print(&summary(&engine, &name, &analysis, start.elapsed()))?,
            Err(error) => {
                failed = true;
                report(args.json, &name, &error)?;
            }
        }
    }
    if let (Some(reason), false) = (&plan.note, args.json) {
        eprint(&format!("computed on the CPU: {reason}"))?;
    }
    Ok(ExitCode::from(u8::from(failed)))
}

fn analyse(engine: &Engine, path: &Path, name: &str) -> Result<Analysis, AudioError> {
    let bar = ProgressBar::new(BAR_STEPS).with_message(name.to_owned());
    bar.set_style(ProgressStyle::with_template("{bar:30} {percent:>3}% {msg}").expect("a constant"));
    let file = if name == STANDARD_INPUT {
        kept(std::io::stdin().lock(), MAX_AUDIO_BYTES, &scratch::open())?
    } else {
        open(path)?
    };
    let extension = path.extension().and_then(|extension| extension.to_str());
    let limits = Limits { max_bytes: MAX_AUDIO_BYTES, max_seconds: MAX_AUDIO_SECONDS };
    let mut track = engine.track(Box::new(file), extension, limits)?;
    while let Step::More { fraction } = block_on(track.step())? {
        bar.set_position((f64::from(fraction) * BAR_STEPS as f64) as u64);
    }
    bar.finish_and_clear();
    track.finish()
}

/// Opens a regular file only: anything else may never end, and opening a pipe blocks until it has a writer.
fn open(path: &Path) -> Result<File, AudioError> {
    if !path.metadata().map_err(AudioError::Read)?.is_file() {
        let what = "it is a folder, a pipe or a device, not a file ('-' reads standard input)";
        return Err(AudioError::Read(Error::new(ErrorKind::Unsupported, what)));
    }
    File::open(path).map_err(AudioError::Read)
}

/// Copies a stream, up to `limit` bytes, into a temporary file, because decoders need to seek.
fn kept(stream: impl Read, limit: u64, scratch: &Scratch) -> Result<File, AudioError> {
    let keep = || {
        let mut file = scratch.file()?;
        let bytes = std::io::copy(&mut stream.take(limit.saturating_add(1)), &mut file)?;
        file.rewind()?;
        Ok((file, bytes))
    };
    let (file, bytes) = keep().map_err(AudioError::Read)?;
    if bytes > limit { Err(AudioError::TooLarge { bytes, limit }) } else { Ok(file) }
}

fn json(engine: &Engine, plan: &Plan, name: &str, analysis: &Analysis, total: Duration) -> anyhow::Result<String> {
    let milliseconds = |duration: Duration| (duration.as_secs_f64() * 10_000.0).round() / 10.0;
    Ok(serde_json::to_string(&Line {
        file: name,
        seconds: analysis.seconds,
        patches: analysis.patches,
        model: &engine.model().name,
        device: engine.device().to_string(),
        speeds: plan.speeds,
        flags: analysis.flags(),
        embedding: &analysis.embedding,
        tags: engine.model().tags.iter().map(String::as_str).zip(analysis.tags.iter().copied()).collect(),
        elapsed_ms: Milliseconds {
            decode: milliseconds(analysis.elapsed.decode),
            analyse: milliseconds(analysis.elapsed.analyse),
            total: milliseconds(total),
        },
    })?)
}

fn summary(engine: &Engine, name: &str, analysis: &Analysis, total: Duration) -> String {
    let mut tags: Vec<_> = engine.model().tags.iter().zip(&analysis.tags).collect();
    tags.sort_by(|(_, a), (_, b)| b.total_cmp(a));
    let tags: Vec<_> = tags.iter().take(SHOWN_TAGS).map(|(tag, share)| format!("{tag} {share:.2}")).collect();
    let flags: String = analysis.flags().iter().map(|flag| format!(" [{flag}]")).collect();
    let name = printable(name);
    let (whole, times) = (analysis.seconds as u64, analysis.seconds / total.as_secs_f64());
    format!(
        "{name}{flags}\n  {}:{:02} in {:.1} s, {times:.0} × real time on {}\n  {}",
        whole / 60,
        whole % 60,
        total.as_secs_f64(),
        engine.device(),
        tags.join(", ")
    )
}

fn report(as_json: bool, name: &str, error: &AudioError) -> anyhow::Result<()> {
    if as_json {
        let error = serde_json::json!({ "kind": error.kind(), "message": error.to_string() });
        print(&serde_json::json!({ "file": name, "error": error }).to_string())
    } else {
        eprint(&printable(&format!("{name}: {error}")))
    }
}

fn print(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{line}")?)
}

fn eprint(line: &str) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stderr().lock(), "{line}")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn standard_input_is_kept_up_to_a_limit() {
        let mut kept_bytes = Vec::new();
        kept(&b"music"[..], 5, &Scratch::default()).unwrap().read_to_end(&mut kept_bytes).unwrap();
        assert_eq!(kept_bytes, b"music");
        let error = kept(std::io::repeat(0), 5, &Scratch::default()).unwrap_err().to_string();
        assert_eq!(error, "the file has 6 bytes; the limit is 5");
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let error = open(&std::env::temp_dir()).unwrap_err().to_string();
        assert!(error.starts_with("could not be read: it is a folder, a pipe or a device, not a file"), "{error}");
    }
}
