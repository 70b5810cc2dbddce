//! The process that drives the GPU. It ends when its standard input closes.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Write, stdin, stdout},
    process,
    sync::mpsc,
    thread,
    time::Duration,
};

use chaarfm_analysis::{AudioError, Backend, Device, Engine, EngineError, PatchOutput};
use chaarfm_models::Manifest;
use pollster::block_on;

use super::wire::{self, FromGpu, ToGpu};

/// Argument that starts the program as that process.
pub(crate) const SUBCOMMAND: &str = "gpu-process";

/// Capacity of the request queue; the worker sends one request and waits for its answer.
const QUEUED_REQUESTS: usize = 1;

/// Time that the process has for a proper exit.
const END_LIMIT_SECONDS: u64 = 5;

/// Longest reason, in characters: graphics libraries can write pages about a kernel.
const MAX_REASON_CHARS: usize = 600;

/// Answers the requests.
pub(super) trait Driver {
    /// Looks for the GPU: [`FromGpu::Found`] or [`FromGpu::Failed`].
    fn find(&self) -> FromGpu;

    /// Opens a model.
    ///
    /// # Errors
    /// The reason why the device does not compute correctly.
    fn open(&self, model: &'static Manifest) -> Result<Engine, String>;

    /// Computes patches.
    ///
    /// # Errors
    /// The reason why the device failed.
    fn run(&mut self, engine: &Engine, log_mel: &[f32]) -> Result<Vec<PatchOutput>, String>;
}

/// Reports the GPU, and computes on it until there are no more requests.
///
/// # Errors
/// When the worker does not read the answers, or a thread cannot be started.
pub(crate) fn run() -> anyhow::Result<()> {
    // A Ctrl-C on the terminal reaches this process as well; it goes on until the worker has handed back its jobs.
    ctrlc::set_handler(|| ())?;
    serve_until(BufReader::new(stdin()), stdout(), Wgpu, end)
}

/// Ends the process properly, or forcibly if a graphics library's exit handlers wait for a driver that hangs.
fn end() {
    let hard = thread::Builder::new().spawn(|| {
        thread::sleep(Duration::from_secs(END_LIMIT_SECONDS));
        process::abort();
    });
    if hard.is_err() {
        process::abort();
    }
    process::exit(0);
}

/// Like [`run`], on other pipes than the standard ones.
#[cfg(test)]
pub(super) fn serve(
    requests: impl BufRead + Send + 'static,
    answers: impl Write,
    driver: impl Driver,
) -> anyhow::Result<()> {
    serve_until(requests, answers, driver, || ())
}

fn serve_until(
    mut from: impl BufRead + Send + 'static,
    mut to: impl Write,
    mut driver: impl Driver,
    end: impl FnOnce() + Send + 'static,
) -> anyhow::Result<()> {
    let (sender, requests) = mpsc::sync_channel(QUEUED_REQUESTS);
    // Requests are read in a thread of their own, so that this process ends with the worker even if a driver hangs.
    thread::Builder::new().name("requests".to_owned()).spawn(move || {
        while let Ok(request) = receive(&mut from) {
            if sender.send(request).is_err() {
                break;
            }
        }
        end();
    })?;
    wire::write(&mut to, &driver.find(), &[])?;
    let mut models = BTreeMap::new();
    for (request, log_mel) in requests {
        let (ToGpu::Open { model: name } | ToGpu::Run { model: name, .. }) = &request;
        let answer = opened(&mut models, name, &driver).and_then(|engine| match request {
            ToGpu::Open { .. } => Ok((FromGpu::Opened, Vec::new())),
            ToGpu::Run { .. } => Ok(computed(driver.run(engine, &log_mel)?)),
        });
        let (answer, numbers) = answer.unwrap_or_else(|reason| {
            let reason = reason.chars().take(MAX_REASON_CHARS).collect();
            (FromGpu::Failed { reason }, Vec::new())
        });
        wire::write(&mut to, &answer, &numbers)?;
    }
    Ok(())
}

fn receive(from: &mut impl BufRead) -> io::Result<(ToGpu, Vec<f32>)> {
    let request = wire::read(from)?;
    let numbers = match &request {
        ToGpu::Open { .. } => Vec::new(),
        ToGpu::Run { numbers, .. } => wire::read_numbers(from, *numbers)?,
    };
    Ok((request, numbers))
}

/// The model of that name, opened on its first use.
fn opened<'m>(
    models: &'m mut BTreeMap<String, Engine>,
    name: &str,
    driver: &impl Driver,
) -> Result<&'m Engine, String> {
    if !models.contains_key(name) {
        let model = chaarfm_models::find(name).ok_or_else(|| format!("there is no model {name}"))?;
        models.insert(name.to_owned(), driver.open(model)?);
    }
    Ok(&models[name])
}

fn computed(outputs: Vec<PatchOutput>) -> (FromGpu, Vec<f32>) {
    let (embedding, tags) = outputs.first().map_or((0, 0), |output| (output.embedding.len(), output.tags.len()));
    let answer = FromGpu::Computed { patches: outputs.len(), embedding, tags };
    let numbers = outputs.into_iter().flat_map(|PatchOutput { embedding, tags }| embedding.into_iter().chain(tags));
    (answer, numbers.collect())
}

/// The GPU of this machine.
struct Wgpu;

impl Driver for Wgpu {
    fn find(&self) -> FromGpu {
        match block_on(Device::find_gpu()) {
            Ok(info) => FromGpu::Found { name: info.name, driver: info.driver, is_software_gpu: info.is_software_gpu },
            Err(error) => FromGpu::Failed { reason: in_words(error) },
        }
    }

    fn open(&self, model: &'static Manifest) -> Result<Engine, String> {
        block_on(Engine::open(Backend::Wgpu, model, chaarfm_models::weights(model))).map_err(in_words)
    }

    fn run(&mut self, engine: &Engine, log_mel: &[f32]) -> Result<Vec<PatchOutput>, String> {
        block_on(engine.patches(log_mel)).map_err(|error| match error {
            AudioError::Device(reason) => reason,
            other => other.to_string(),
        })
    }
}

/// The worker adds that the device failed.
fn in_words(error: EngineError) -> String {
    match error {
        EngineError::Device(reason) | EngineError::NoGpu(reason) => reason,
        other => other.to_string(),
    }
}
