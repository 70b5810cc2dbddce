//! Runs the GPU in a process of its own, a second instance of this program.
//!
//! The GPU libraries bring along 70 MB of memory, threads that never rest, lines on standard error, crashes that kill
//! the process, and kernels whose compilation may never end. All of that disappears when their process is ended: when
//! the GPU is not chosen, when it fails or takes too long, and after a minute without work. [`process`] is the other
//! end.

pub(crate) mod process;
#[cfg(test)]
pub(crate) mod stand_in;
mod wire;

use std::{
    fmt,
    io::{self, BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Command, Stdio},
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, mpsc},
    thread,
    time::Duration,
};

use chaarfm_analysis::{Backend, DeviceInfo, PatchOutput, RemoteNetwork};
use chaarfm_models::Manifest;

use self::wire::{FromGpu, ToGpu};

/// Time limits of the GPU; when one is exceeded, its process is ended.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeLimits {
    /// Finding the GPU.
    pub(crate) find: Duration,
    /// Starting the GPU, compiling its kernels for the first batch, giving the known answer.
    pub(crate) open: Duration,
    /// One batch.
    pub(crate) batch: Duration,
    /// Waiting for work.
    pub(crate) idle: Duration,
}

impl TimeLimits {
    const DEFAULT: Self = Self {
        find: Duration::from_secs(10),
        open: Duration::from_secs(60),
        batch: Duration::from_secs(10),
        idle: Duration::from_secs(60),
    };

    /// For a GPU that was asked for explicitly, even if it is emulated on the CPU and slow.
    const PATIENT: Self = Self { open: Duration::from_secs(45), batch: Duration::from_secs(30), ..Self::DEFAULT };

    /// Longest time for a batch, including the start of the process.
    #[cfg(test)]
    fn longest(self) -> Duration {
        self.find + self.open + self.batch
    }
}

/// Longest line kept from the GPU libraries' standard error, in bytes.
const MAX_COMPLAINT_BYTES: u64 = 400;

/// Starts the process.
type Start = dyn Fn() -> io::Result<Process> + Send + Sync;

/// A process that has been started.
struct Process {
    requests: Box<dyn Write + Send>,
    answers: Box<dyn Read + Send>,
    complaints: Box<dyn Read + Send>,
    /// Ends the process, whatever it is doing; that closes its pipes.
    kill: Box<dyn FnOnce() + Send>,
}

impl Process {
    /// Starts this program again as the GPU process.
    fn start() -> io::Result<Self> {
        // This link leads to the running program even if its file was replaced meanwhile.
        let own = PathBuf::from("/proc/self/exe");
        let own = if own.exists() { own } else { std::env::current_exe()? };
        let mut command = Command::new(own);
        command.arg(process::SUBCOMMAND).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let piped = "the process was started with pipes";
        Ok(Self {
            requests: Box::new(child.stdin.take().expect(piped)),
            answers: Box::new(child.stdout.take().expect(piped)),
            complaints: Box::new(child.stderr.take().expect(piped)),
            kill: Box::new(move || {
                // A process that has already ended is fine, too.
                drop(child.kill());
                drop(child.wait());
            }),
        })
    }
}

/// A GPU. Its process is started when there is something to compute.
pub(crate) struct Gpu {
    start: Box<Start>,
    limits: TimeLimits,
    /// Its backend and name.
    pub(crate) info: DeviceInfo,
    running: Mutex<Option<Running>>,
}

impl Gpu {
    /// Looks for a GPU that is worth measuring.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn find() -> Result<Arc<Self>, String> {
        Self::find_by(Box::new(Process::start), TimeLimits::DEFAULT)
    }

    /// Looks for a GPU at a person's request, real or emulated.
    ///
    /// # Errors
    /// The reason why there is none.
    pub(crate) fn find_any() -> Result<Arc<Self>, String> {
        Self::find_by(Box::new(Process::start), TimeLimits::PATIENT)
    }

    fn find_by(start: Box<Start>, limits: TimeLimits) -> Result<Arc<Self>, String> {
        let (running, info) = Running::start(&*start, limits)?;
        Ok(Arc::new(Self { start, limits, info, running: Mutex::new(Some(running)) }))
    }

    /// Ends the GPU's process until there is something to compute.
    pub(crate) fn let_go(&self) {
        *self.running() = None;
    }

    fn running(&self) -> MutexGuard<'_, Option<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Computes in the running process, or else in a new one with a fresh driver state.
    fn compute(
        &self,
        running: &mut Option<Running>,
        model: &'static Manifest,
        log_mel: &[f32],
    ) -> Result<Vec<PatchOutput>, Lost> {
        let process = match running {
            Some(process) => process,
            None => running.insert(Running::start(&*self.start, self.limits).map_err(Lost::Failed)?.0),
        };
        process.open(model, self.limits.open)?;
        process.run(model, log_mel, self.limits.batch)
    }
}

impl fmt::Debug for Gpu {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gpu").field("info", &self.info).finish_non_exhaustive()
    }
}

impl RemoteNetwork for Gpu {
    fn run(&self, model: &'static Manifest, log_mel: &[f32]) -> Result<Vec<PatchOutput>, String> {
        let mut running = self.running();
        let mut outcome = self.compute(&mut running, model, log_mel);
        if let Err(Lost::LetGo) = outcome {
            *running = None;
            outcome = self.compute(&mut running, model, log_mel);
        }
        outcome.map_err(|lost| {
            *running = None;
            lost.to_string()
        })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
enum Lost {
    /// The process was idle for a while and was ended.
    #[error("it was let go")]
    LetGo,
    /// The device does not work.
    #[error("{0}")]
    Failed(String),
}

/// A process that drives the GPU; ended when dropped.
struct Running {
    requests: Box<dyn Write + Send>,
    answers: BufReader<Box<dyn Read + Send>>,
    /// The names of the models opened in it.
    models: Vec<&'static str>,
    /// Tells the watching thread which step is being waited for.
    waits: mpsc::Sender<Wait>,
    idle: Duration,
    end: Arc<OnceLock<Wait>>,
    complaint: Arc<Mutex<String>>,
}

/// The steps that are waited for, each with its time limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wait {
    Answer(Duration),
    Work(Duration),
}

impl Running {
    /// Starts the process, which at once reports the GPU it found.
    fn start(start: &Start, limits: TimeLimits) -> Result<(Self, DeviceInfo), String> {
        let process = start().map_err(|error| format!("its process does not start: {error}"))?;
        let Process { requests, answers, complaints, kill } = process;
        let answers = BufReader::new(answers);
        let (complaint, end) = (Arc::new(Mutex::new(String::new())), Arc::new(OnceLock::new()));
        let (waits, waited) = mpsc::channel();
        let watch = {
            let end = Arc::clone(&end);
            move || {
                watch(&waited, limits.find, &end);
                kill();
            }
        };
        let listen = {
            let complaint = Arc::clone(&complaint);
            move || listen(complaints, &complaint)
        };
        let spawned = thread::Builder::new().name("gpu watch".to_owned()).spawn(watch);
        let spawned = spawned.and(thread::Builder::new().name("gpu errors".to_owned()).spawn(listen));
        spawned.map_err(|error| format!("its process has no thread to watch it: {error}"))?;
        let idle = limits.idle;
        let mut running = Self { requests, answers, models: Vec::new(), waits, idle, end, complaint };
        match running.answer().map_err(|lost| lost.to_string())? {
            FromGpu::Found { name, driver, is_software_gpu } => {
                let info = DeviceInfo { backend: Backend::Wgpu, name, driver, is_software_gpu };
                Ok((running, info))
            }
            FromGpu::Failed { reason } => Err(reason),
            other => Err(unexpected(&other)),
        }
    }

    /// Opens a model in the process, which checks its known answer.
    fn open(&mut self, model: &'static Manifest, limit: Duration) -> Result<(), Lost> {
        if self.models.contains(&model.name.as_str()) {
            return Ok(());
        }
        self.ask(&ToGpu::Open { model: model.name.clone() }, &[], limit)?;
        match self.answer()? {
            FromGpu::Opened => {
                self.models.push(&model.name);
                Ok(())
            }
            FromGpu::Failed { reason } => Err(Lost::Failed(reason)),
            other => Err(Lost::Failed(unexpected(&other))),
        }
    }

    fn run(&mut self, model: &Manifest, log_mel: &[f32], limit: Duration) -> Result<Vec<PatchOutput>, Lost> {
        self.ask(&ToGpu::Run { model: model.name.clone(), numbers: log_mel.len() }, log_mel, limit)?;
        match self.answer()? {
            FromGpu::Computed { patches, embedding, tags } => {
                let numbers = wire::read_numbers(&mut self.answers, patches * (embedding + tags));
                let numbers = numbers.map_err(|error| self.lost(&error))?;
                self.wait(Wait::Work(self.idle));
                let output = |row: &[f32]| {
                    let (embedding, tags) = row.split_at(embedding);
                    PatchOutput { embedding: embedding.to_vec(), tags: tags.to_vec() }
                };
                Ok(numbers.chunks_exact((embedding + tags).max(1)).map(output).collect())
            }
            FromGpu::Failed { reason } => Err(Lost::Failed(reason)),
            other => Err(Lost::Failed(unexpected(&other))),
        }
    }

    fn ask(&mut self, request: &ToGpu, numbers: &[f32], limit: Duration) -> Result<(), Lost> {
        self.wait(Wait::Answer(limit));
        wire::write(&mut self.requests, request, numbers).map_err(|error| self.lost(&error))
    }

    fn answer(&mut self) -> Result<FromGpu, Lost> {
        let answer = wire::read(&mut self.answers).map_err(|error| self.lost(&error))?;
        if !matches!(answer, FromGpu::Computed { .. }) {
            self.wait(Wait::Work(self.idle));
        }
        Ok(answer)
    }

    fn wait(&self, wait: Wait) {
        // A send without a receiver means that the process has ended, which its pipes will tell.
        let _ = self.waits.send(wait);
    }

    /// Why the pipes are closed.
    fn lost(&self, error: &io::Error) -> Lost {
        match self.end.get() {
            Some(Wait::Work(_)) => Lost::LetGo,
            Some(Wait::Answer(limit)) => Lost::Failed(format!("it did not answer within {} s", limit.as_secs_f32())),
            None => {
                let complaint = self.complaint.lock().unwrap_or_else(PoisonError::into_inner);
                let complaint = if complaint.is_empty() { error.to_string() } else { complaint.clone() };
                Lost::Failed(format!("its process has ended: {complaint}"))
            }
        }
    }
}

fn unexpected(answer: &FromGpu) -> String {
    format!("its process gave an answer out of turn: {answer:?}")
}

/// Returns when a wait exceeds its limit, or when the process is no longer wanted.
fn watch(waits: &mpsc::Receiver<Wait>, find: Duration, end: &OnceLock<Wait>) {
    let mut wait = Wait::Answer(find);
    loop {
        let (Wait::Answer(limit) | Wait::Work(limit)) = wait;
        match waits.recv_timeout(limit) {
            Ok(next) => wait = next,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                // Set before the process is killed, so that readers of its closed pipes find the reason.
                end.get_or_init(|| wait);
                return;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
    }
}

/// Keeps the last line that the process wrote to standard error.
fn listen(complaints: impl Read, complaint: &Mutex<String>) {
    let mut complaints = BufReader::new(complaints);
    let mut line = Vec::new();
    while complaints.by_ref().take(MAX_COMPLAINT_BYTES).read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        let text = String::from_utf8_lossy(&line).trim().to_owned();
        tracing::debug!("the GPU's process: {text}");
        // Ignores the developer hint after a panic's message, and the note at each start that there is no desktop.
        if !text.is_empty() && !text.starts_with("note: ") && !text.contains("XDG_RUNTIME_DIR") {
            *complaint.lock().unwrap_or_else(PoisonError::into_inner) = text;
        }
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::atomic::Ordering, time::Instant};

    use chaarfm_analysis::{Engine, check_patch};
    use pollster::block_on;

    use super::{
        stand_in::{LIMITS, StandIn},
        *,
    };

    fn engine(gpu: &Arc<Gpu>) -> Result<Engine, String> {
        let remote = Engine::remote(Arc::clone(gpu) as _, gpu.info.clone(), chaarfm_models::default());
        block_on(remote).map_err(|error| error.to_string())
    }

    #[test]
    fn no_wait_for_a_gpu_looks_like_an_analysis_that_stands_still() {
        for limits in [TimeLimits::DEFAULT, TimeLimits::PATIENT] {
            assert!(limits.longest() < Duration::from_secs(crate::analyser::UNMOVED_LIMIT_SECONDS), "{limits:?}");
        }
    }

    #[test]
    fn a_network_elsewhere_gives_the_same_answer() {
        let gpu = StandIn::default().found();
        assert_eq!(gpu.info.to_string(), "wgpu (Stand-in)");
        let model = chaarfm_models::default();
        let here = block_on(Engine::open(Backend::Flex, model, chaarfm_models::weights(model))).unwrap();
        let elsewhere = engine(&gpu).unwrap();
        let outputs = |engine: &Engine| block_on(engine.patches(&check_patch())).unwrap();
        assert_eq!(outputs(&here), outputs(&elsewhere));
        let both = ["msd-musicnn", "mtt-musicnn"].map(|name| chaarfm_models::find(name).unwrap());
        for model in both {
            block_on(Engine::remote(Arc::clone(&gpu) as _, gpu.info.clone(), model)).unwrap();
        }
    }

    #[test]
    fn one_that_never_finishes_compiling_is_given_up() {
        let endless = StandIn { open: Duration::from_secs(3600), ..StandIn::default() };
        let limits = TimeLimits { open: Duration::from_millis(200), ..LIMITS };
        let start = Instant::now();
        let error = engine(&endless.within(limits)).unwrap_err();
        assert_eq!(error, "the device failed: it did not answer within 0.2 s");
        assert!(start.elapsed() < Duration::from_secs(30), "{:?}", start.elapsed());
    }

    #[test]
    fn one_that_has_nothing_to_do_is_let_go_and_comes_back() {
        let stand_in = StandIn::default();
        let starts = Arc::clone(&stand_in.starts);
        let gpu = stand_in.within(TimeLimits { idle: Duration::from_millis(100), ..LIMITS });
        let engine = engine(&gpu).unwrap();
        let has_ended = || gpu.running().as_ref().is_some_and(|running| running.end.get().is_some());
        let deadline = Instant::now() + Duration::from_secs(30);
        while !has_ended() {
            assert!(Instant::now() < deadline, "it was not let go");
            thread::yield_now();
        }
        assert_eq!(block_on(engine.patches(&check_patch())).unwrap().len(), 1);
        assert_eq!(starts.load(Ordering::Relaxed), 2);
    }

    #[test]
    fn one_that_breaks_says_why_and_is_started_anew_when_it_is_asked_again() {
        let gpu = StandIn { breaks_after: 2, ..StandIn::default() }.found();
        let first = engine(&gpu).unwrap();
        let error = block_on(first.patches(&check_patch())).unwrap_err();
        assert_eq!(error.to_string(), "the device failed: it broke");
        engine(&gpu).unwrap();
    }
}
