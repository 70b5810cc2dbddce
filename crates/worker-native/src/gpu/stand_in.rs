//! A GPU for tests: the other end of real pipes, in a thread instead of a process.

use std::{
    io::{self, BufReader, PipeWriter, Write, pipe},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::Duration,
};

use chaarfm_analysis::{Backend, Engine, MEL_BANDS, PATCH_FRAMES, PatchOutput, check_patch};
use chaarfm_models::Manifest;
use pollster::block_on;

use super::{
    Gpu, Process, TimeLimits,
    process::{Driver, serve},
    wire::FromGpu,
};

/// Long enough for a busy machine.
const LONG: Duration = Duration::from_secs(120);
pub(super) const LIMITS: TimeLimits = TimeLimits { find: LONG, open: LONG, batch: LONG, idle: LONG };

/// A GPU simulated on the CPU, with adjustable speed.
#[derive(Debug, Clone, Default)]
pub(crate) struct StandIn {
    pub(crate) open: Duration,
    /// Additional time for each patch.
    pub(crate) patch: Duration,
    /// It returns the known answer for every patch without computing.
    pub(crate) knows_the_answer: bool,
    /// It reports that it is emulated on the CPU.
    pub(crate) is_software: bool,
    /// Number of batches after which it breaks down; 0 for never.
    pub(crate) breaks_after: u32,
    /// How often it was started.
    pub(crate) starts: Arc<AtomicU32>,
    /// Batches computed so far.
    pub(crate) batches: u32,
    /// The known answer, once computed.
    pub(crate) answer: Option<PatchOutput>,
}

/// Frames from the start of a patch to the start of the next one.
const PATCH_HOP: usize = 93;

impl Driver for StandIn {
    fn find(&self) -> FromGpu {
        FromGpu::Found { name: "Stand-in".into(), driver: "1".into(), is_software_gpu: self.is_software }
    }

    fn open(&self, model: &'static Manifest) -> Result<Engine, String> {
        thread::sleep(self.open);
        block_on(Engine::open(Backend::Flex, model, chaarfm_models::weights(model))).map_err(|error| error.to_string())
    }

    fn run(&mut self, engine: &Engine, log_mel: &[f32]) -> Result<Vec<PatchOutput>, String> {
        self.batches += 1;
        if self.batches == self.breaks_after {
            return Err("it broke".into());
        }
        let patch = check_patch();
        let asked = if self.knows_the_answer { &patch } else { log_mel };
        let outputs = match &self.answer {
            Some(answer) => vec![answer.clone(); (log_mel.len() / MEL_BANDS - PATCH_FRAMES) / PATCH_HOP + 1],
            None => block_on(engine.patches(asked)).map_err(|error| error.to_string())?,
        };
        self.answer = self.knows_the_answer.then(|| outputs[0].clone());
        thread::sleep(self.patch * outputs.len() as u32);
        Ok(outputs)
    }
}

/// Standard output of a process that can be killed.
#[derive(Clone)]
struct Output(Arc<Mutex<Option<PipeWriter>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().as_mut().ok_or(io::ErrorKind::BrokenPipe)?.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl StandIn {
    pub(crate) fn found(self) -> Arc<Gpu> {
        self.within(LIMITS)
    }

    pub(super) fn within(self, limits: TimeLimits) -> Arc<Gpu> {
        Gpu::find_by(Box::new(move || self.clone().start()), limits).unwrap()
    }

    /// Runs the other end of real pipes in a thread.
    fn start(self) -> io::Result<Process> {
        self.starts.fetch_add(1, Ordering::Relaxed);
        let ((stdin, requests), (answers, stdout), (complaints, _)) = (pipe()?, pipe()?, pipe()?);
        let output = Output(Arc::new(Mutex::new(Some(stdout))));
        let kill = output.clone();
        thread::spawn(move || serve(BufReader::new(stdin), output, self));
        let kill = move || drop(kill.0.lock().unwrap().take());
        Ok(Process {
            requests: Box::new(requests),
            answers: Box::new(answers),
            complaints: Box::new(complaints),
            kill: Box::new(kill),
        })
    }
}
