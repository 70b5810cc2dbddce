//! Chooses the device to compute on: the one asked for, or the fastest of this machine, by measurement.
//!
//! Each device must give the known answer. Then it is timed for a moment on the same audio, first alone and then
//! together with the other. `memory.rs` keeps the result for the same device, driver, program and number of threads.

mod memory;

use std::{fmt, io::Write, process::ExitCode, str::FromStr, sync::Arc, thread, time::Duration};

use chaarfm_analysis::{Backend, DeviceInfo, Engine, EngineError};
use chaarfm_models::Manifest;
use chaarfm_protocol::Speeds;
use chaarfm_worker::Choice;
use pollster::block_on;
use rayon::ThreadPoolBuilder;

pub(crate) use self::memory::Memory;
use self::memory::{Key, Outcome};
use crate::gpu::Gpu;

/// How long each device is timed, alone and together with the other.
const TIMED: Duration = Duration::from_millis(700);

/// The device that a person asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum DeviceChoice {
    /// The fastest device, or CPU and GPU together where that is faster than either.
    #[default]
    Auto,
    /// This device only.
    Only(Backend),
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Only(backend) => backend.fmt(f),
        }
    }
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(Self::Auto) } else { text.parse().map(Self::Only) }
    }
}

/// A device to work on.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// The CPU, by this backend.
    Cpu(Backend),
    /// The GPU, in a process of its own.
    Gpu(Arc<Gpu>),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu(backend) => write!(f, "CPU ({backend})"),
            Self::Gpu(gpu) => write!(f, "{}", gpu.info),
        }
    }
}

impl Place {
    fn backend(&self) -> Backend {
        match self {
            Self::Cpu(backend) => *backend,
            Self::Gpu(_) => Backend::Wgpu,
        }
    }

    /// Opens a model on the device.
    ///
    /// # Errors
    /// When the device does not compute correctly.
    pub(crate) fn engine(&self, model: &'static Manifest) -> Result<Engine, EngineError> {
        match self {
            Self::Cpu(backend) => block_on(Engine::open(*backend, model, chaarfm_models::weights(model))),
            Self::Gpu(gpu) => block_on(Engine::remote(Arc::clone(gpu) as _, gpu.info.clone(), model)),
        }
    }
}

/// The devices to work on, and why.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// One or two devices; the faster one is first.
    pub(crate) places: Vec<Place>,
    /// The measured speeds of the devices that were tried.
    pub(crate) speeds: Speeds,
    /// Why the GPU was not chosen, if the program was free to choose.
    pub(crate) note: Option<String>,
    /// Whether the program was free to choose.
    pub(crate) is_free: bool,
}

impl Plan {
    /// Opens a model on the fastest device.
    ///
    /// # Errors
    /// When the device does not compute correctly.
    pub(crate) fn engine(&self, model: &'static Manifest) -> Result<Engine, EngineError> {
        self.places[0].engine(model)
    }

    fn of_one(place: Place) -> Self {
        Self { places: vec![place], speeds: Speeds::default(), note: None, is_free: false }
    }
}

/// Finds out which devices to work on. Blocks for one to three seconds if the GPU was not tried before, for two minutes
/// at most if it does not work.
///
/// # Errors
/// When the device asked for is missing, or not even the CPU computes correctly.
pub(crate) fn plan(choice: DeviceChoice, memory: &Memory) -> anyhow::Result<Plan> {
    match choice {
        DeviceChoice::Only(Backend::Wgpu) => {
            let gpu = Gpu::find_any().map_err(EngineError::NoGpu)?;
            Ok(Plan::of_one(Place::Gpu(gpu)))
        }
        DeviceChoice::Only(backend) => Ok(Plan::of_one(Place::Cpu(backend))),
        DeviceChoice::Auto => fastest(Place::Cpu(Backend::Flex), Gpu::find(), memory),
    }
}

/// Like [`plan`], but always with the speed of the first device.
///
/// # Errors
/// As [`plan`].
pub(crate) fn measured_plan(choice: DeviceChoice, memory: &Memory) -> anyhow::Result<Plan> {
    let mut plan = plan(choice, memory)?;
    let speeds = &mut plan.speeds;
    let speed = match &plan.places[0] {
        Place::Cpu(_) => &mut speeds.cpu,
        Place::Gpu(_) => &mut speeds.gpu,
    };
    if speed.is_none() {
        let engine = plan.places[0].engine(chaarfm_models::default())?;
        *speed = Some(block_on(engine.speed(TIMED))? as f32);
    }
    Ok(plan)
}

/// The fastest choice among the CPU and the GPU found.
fn fastest(cpu: Place, found: Result<Arc<Gpu>, String>, memory: &Memory) -> anyhow::Result<Plan> {
    let cpu_alone = |cpu, speeds, note| Plan { places: vec![cpu], speeds, note: Some(note), is_free: true };
    let gpu = match found {
        Ok(gpu) if gpu.info.is_software_gpu => {
            let note = format!("{} is software, slower than the CPU itself", gpu.info.name);
            return Ok(cpu_alone(cpu, Speeds::default(), note));
        }
        Ok(gpu) => gpu,
        Err(reason) => return Ok(cpu_alone(cpu, Speeds::default(), EngineError::NoGpu(reason).to_string())),
    };
    let key = Key::of(&gpu.info);
    let outcome = match memory.recall(&key) {
        Some(outcome) => outcome,
        None => {
            let outcome = measure(&cpu, &gpu)?;
            memory.keep(key, &outcome);
            outcome
        }
    };
    match outcome {
        Outcome::Failed(reason) => {
            gpu.let_go();
            Ok(cpu_alone(cpu, Speeds::default(), format!("{} is of no use here: {reason}", gpu.info.name)))
        }
        Outcome::Measured(speeds) => {
            let choice = Choice::of(&speeds);
            tracing::info!(?speeds, ?choice, "the devices were compared");
            let name = gpu.info.name.clone();
            let places = match choice {
                Choice::Cpu => {
                    gpu.let_go();
                    return Ok(cpu_alone(cpu, speeds, format!("faster than {name}")));
                }
                Choice::Gpu => vec![Place::Gpu(gpu)],
                Choice::Both if speeds.gpu >= speeds.cpu => vec![Place::Gpu(gpu), cpu],
                Choice::Both => vec![cpu, Place::Gpu(gpu)],
            };
            Ok(Plan { places, speeds, note: None, is_free: true })
        }
    }
}

/// Times both devices with the default model.
///
/// # Errors
/// When the CPU does not compute correctly. A GPU that does not is a valid outcome.
fn measure(cpu: &Place, gpu: &Arc<Gpu>) -> anyhow::Result<Outcome> {
    let model = chaarfm_models::default();
    let cpu = cpu.engine(model)?;
    // The GPU gets its own threads, as at work: one of them waits for the GPU while another one decodes.
    let threads = ThreadPoolBuilder::new().num_threads(rayon::current_num_threads()).build()?;
    let speed_of_gpu = |gpu: &Engine| threads.install(|| block_on(gpu.speed(TIMED)));
    let on_gpu = || -> Result<(Engine, f64), String> {
        let gpu = Place::Gpu(Arc::clone(gpu)).engine(model).map_err(|error| error.to_string())?;
        let speed = speed_of_gpu(&gpu).map_err(|error| error.to_string())?;
        Ok((gpu, speed))
    };
    let (gpu, gpu_speed) = match on_gpu() {
        Ok(measured) => measured,
        Err(reason) => return Ok(Outcome::Failed(reason)),
    };
    let cpu_speed = block_on(cpu.speed(TIMED))?;
    let (cpu_share, gpu_share) = thread::scope(|scope| {
        let gpu = scope.spawn(|| speed_of_gpu(&gpu));
        let cpu = block_on(cpu.speed(TIMED));
        (cpu, gpu.join())
    });
    let cpu_share = cpu_share?;
    // If only the joint measurement of the GPU failed, the GPU may still be used alone.
    let gpu_share = gpu_share.ok().and_then(Result::ok);
    let both = gpu_share.map(|gpu_share| cpu_share + gpu_share);
    // A device that was faster together with the other one was held up by something else when measured alone.
    let (cpu_speed, gpu_speed) = (cpu_speed.max(cpu_share), gpu_speed.max(gpu_share.unwrap_or_default()));
    let [cpu, gpu, both] = [Some(cpu_speed), Some(gpu_speed), both].map(|speed| speed.map(|speed| speed as f32));
    Ok(Outcome::Measured(Speeds { cpu, gpu, both }))
}

/// Remembers that a chosen GPU has stopped working.
pub(crate) fn note_failure(place: &Place, reason: &str) {
    if let Place::Gpu(gpu) = place {
        Memory::of_user().keep(Key::of(&gpu.info), &Outcome::Failed(reason.to_owned()));
    }
}

/// The results of trying every device.
#[derive(Debug)]
pub(crate) struct Trials {
    /// The CPU, which gave the known answer.
    pub(crate) cpu: DeviceInfo,
    /// The GPU, if there is one.
    pub(crate) gpu: Option<DeviceInfo>,
    /// Why the GPU is unusable, or that there is none.
    pub(crate) gpu_failure: Option<String>,
    pub(crate) speeds: Speeds,
    /// The devices that `auto` chooses.
    pub(crate) auto: Vec<Backend>,
    /// Why `auto` does not choose the GPU.
    pub(crate) note: Option<String>,
}

impl Trials {
    /// Tries the devices of this machine and remembers the result. Blocks as [`plan`] does if nothing is remembered.
    ///
    /// # Errors
    /// When not even the CPU computes correctly.
    pub(crate) fn of_this_machine(memory: &Memory) -> anyhow::Result<Self> {
        Self::of(Place::Cpu(Backend::Flex), Gpu::find(), memory)
    }

    pub(crate) fn of(place: Place, found: Result<Arc<Gpu>, String>, memory: &Memory) -> anyhow::Result<Self> {
        let cpu = place.engine(chaarfm_models::default())?;
        let mut outcome = Outcome::Failed(found.as_ref().err().cloned().unwrap_or_default());
        if let Ok(gpu) = &found {
            outcome = measure(&place, gpu)?;
            if !gpu.info.is_software_gpu {
                memory.keep(Key::of(&gpu.info), &outcome);
            }
        }
        let (speeds, gpu_failure) = match outcome {
            Outcome::Measured(speeds) => (speeds, None),
            Outcome::Failed(reason) => {
                (Speeds { cpu: Some(block_on(cpu.speed(TIMED))? as f32), ..Speeds::default() }, Some(reason))
            }
        };
        let gpu = found.as_ref().ok().map(|gpu| gpu.info.clone());
        let plan = fastest(place, found, memory)?;
        let auto = plan.places.iter().map(Place::backend).collect();
        Ok(Self { cpu: cpu.device().clone(), gpu, gpu_failure, speeds, auto, note: plan.note })
    }
}

/// `chaarfm-worker devices`: the speed of each device, measured again; as a line of JSON or for people.
///
/// # Errors
/// When not even the CPU computes correctly, or the output cannot be written.
pub(crate) fn report(as_json: bool) -> anyhow::Result<ExitCode> {
    let Trials { cpu, gpu, gpu_failure, speeds, auto, note } = Trials::of_this_machine(&Memory::of_user())?;
    let gpu = gpu.as_ref().map(ToString::to_string);
    let auto: Vec<&str> = auto.into_iter().map(Backend::name).collect();
    let mut out = std::io::stdout().lock();
    if as_json {
        let line = serde_json::json!({
            "cpu": cpu.to_string(), "gpu": gpu, "gpu_failure": gpu_failure, "speeds": speeds, "auto": auto, "note": note,
        });
        writeln!(out, "{line}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let speed = |speed: Option<f32>| speed.map_or_else(String::new, |speed| format!("{speed:.0} patches a second"));
    writeln!(out, "{cpu}: {}", speed(speeds.cpu))?;
    let gpu = gpu.unwrap_or_else(|| "wgpu".to_owned());
    writeln!(out, "{gpu}: {}", gpu_failure.unwrap_or_else(|| speed(speeds.gpu)))?;
    if speeds.both.is_some() {
        writeln!(out, "both at once: {}", speed(speeds.both))?;
    }
    let note = note.map(|note| format!("; {note}")).unwrap_or_default();
    writeln!(out, "auto takes {}{note}", auto.join(" and "))?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::stand_in::StandIn;

    fn backends(plan: &Plan) -> Vec<Backend> {
        plan.places.iter().map(Place::backend).collect()
    }

    /// Number of measurements before the plan counts as wrong. Other tests may disturb some of them, but both they and
    /// each measurement end within seconds.
    const TRIES: usize = 20;

    /// Expects a plan for devices that sleep for the given milliseconds a patch, and repeats the measurement until the
    /// plan fits.
    fn expect_plan(cpu: u64, gpu: u64, is_expected: impl Fn(&Plan, [f32; 3]) -> bool) {
        let device = |millis| {
            StandIn { knows_the_answer: true, patch: Duration::from_millis(millis), ..StandIn::default() }.found()
        };
        let plan = || fastest(Place::Gpu(device(cpu)), Ok(device(gpu)), &Memory::none()).unwrap();
        let mut plans = (0..TRIES).map(|_| plan()).inspect(|plan| println!("{plan:?}"));
        let speeds = |plan: &Plan| [plan.speeds.cpu, plan.speeds.gpu, plan.speeds.both].map(Option::unwrap);
        assert!(plans.any(|plan| is_expected(&plan, speeds(&plan))));
    }

    #[test]
    fn a_slow_gpu_leaves_the_work_to_the_cpu() {
        expect_plan(10, 200, |plan, [cpu, gpu, _]| {
            let outcome = (plan.places.len(), plan.note.as_deref());
            cpu > gpu && gpu > 0.0 && outcome == (1, Some("faster than Stand-in"))
        });
    }

    #[test]
    fn a_fast_gpu_is_taken() {
        expect_plan(200, 10, |plan, [cpu, gpu, _]| gpu > cpu && plan.places.len() == 1 && plan.note.is_none());
    }

    #[test]
    fn both_are_taken_where_they_do_more_than_either() {
        expect_plan(40, 40, |plan, [cpu, gpu, both]| {
            both > 1.1 * cpu.max(gpu) && plan.places.len() == 2 && plan.note.is_none()
        });
    }

    #[test]
    fn what_is_no_gpu_is_not_even_tried() {
        let plan = fastest(Place::Cpu(Backend::Flex), Err("there is none".into()), &Memory::none()).unwrap();
        assert_eq!((backends(&plan), plan.speeds), (vec![Backend::Flex], Speeds::default()));
        assert_eq!(plan.note.as_deref(), Some("no usable GPU: there is none"));
    }

    #[test]
    fn a_gpu_that_breaks_when_it_is_tried_leaves_the_work_to_the_cpu() {
        let broken = StandIn { breaks_after: 1, ..StandIn::default() };
        let plan = fastest(Place::Cpu(Backend::Flex), Ok(broken.found()), &Memory::none()).unwrap();
        assert_eq!(backends(&plan), [Backend::Flex]);
        assert_eq!(plan.note.as_deref(), Some("Stand-in is of no use here: the device failed: it broke"));
    }
}
