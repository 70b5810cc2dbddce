//! The browser worker's page: a code, a button, and the state of all Web Workers, shown as one.

mod program;

use chaarfm_api::LogLine;
use chaarfm_protocol::{Device, PairingCode, SessionState, Stage};
use chaarfm_worker::{JobStatus, Phase, Status};
use leptos::{ev::SubmitEvent, prelude::*};
use leptos_router::{
    NavigateOptions,
    hooks::{use_navigate, use_params_map, use_query_map},
};

use self::program::Program as InstallProgram;
use crate::{
    format,
    lending::{
        Counters, DeviceWish, Lending, MAX_WEB_WORKERS, Run, Slot, SlotStep, Step, Terms, default_web_workers,
        read_web_workers,
    },
    parts::{Bar, DeviceBadge, Log, focus_moves_on, page_title},
    wake_lock,
    web_worker::Program,
};

/// The backend of the program for the CPU.
const CPU_BACKEND: &str = "flex";

#[component]
pub(crate) fn Join() -> impl IntoView {
    let lending = expect_context::<Lending>();
    page_title(move || title(&lending_headline(lending), lending.counters().done));
    view! {
        <section class="narrow join">
            <h1>"Lend this machine"</h1>
            <Show when=move || lending.run.with(Option::is_some)>
                <RunCard lending />
            </Show>
            <Show when=move || !lending.is_active()>
                <CodeForm lending />
            </Show>
            <Show when=move || lending.log.with(|log| !log.is_empty())>
                <Log lines=Signal::derive(move || {
                    lending.log.with(|log| log.iter().cloned().collect::<Vec<LogLine>>())
                }) />
            </Show>
        </section>
    }
}

/// Form for the code, which the address may already contain.
#[component]
fn CodeForm(lending: Lending) -> impl IntoView {
    let params = use_params_map();
    let query = use_query_map();
    let navigate = use_navigate();
    let earlier = lending.run.with_untracked(|run| run.as_ref().map(Run::terms));
    let code = params.read_untracked().get("code").or(earlier.map(|terms| terms.code.to_string())).unwrap_or_default();
    let code = RwSignal::new(code);
    let wish = query.read_untracked().get("device").and_then(|name| DeviceWish::named(&name));
    let device = RwSignal::new(wish.or(earlier.map(|terms| terms.device)).unwrap_or(DeviceWish::Auto));
    let default_web_workers = default_web_workers(window().navigator().hardware_concurrency());
    let wish = query.read_untracked().get("workers").and_then(|number| read_web_workers(&number));
    let web_workers = wish.or(earlier.map(|terms| terms.web_workers)).unwrap_or(default_web_workers);
    let web_workers = RwSignal::new(web_workers);
    let is_advanced = device.get_untracked() != DeviceWish::Auto || web_workers.get_untracked() != default_web_workers;
    // No error is shown for a code that is still being typed.
    let asked = RwSignal::new(!code.read_untracked().is_empty());
    let problem = Memo::new(move |_| {
        if asked.get() {
            code.with(|code| code.parse::<PairingCode>().err().map(|error| format::sentence(&error.to_string())))
        } else {
            None
        }
    });
    let join = move |event: SubmitEvent| {
        event.prevent_default();
        asked.set(true);
        let Ok(parsed) = code.with_untracked(|code| code.parse::<PairingCode>()) else { return };
        let terms = Terms { code: parsed, device: device.get_untracked(), web_workers: web_workers.get_untracked() };
        lending.start(terms);
        // Puts the code into the address as in a join link, so that it survives a reload.
        let options = NavigateOptions { replace: true, scroll: false, ..NavigateOptions::default() };
        navigate(&format!("/join/{parsed}{}", terms.query(default_web_workers)), options);
    };
    focus_moves_on(".code-form", "headline");
    view! {
        <form class="card code-form" on:submit=join novalidate>
            <p class="lead">
                "Enter the code you were given. This tab then fetches tracks, listens to them and sends back how each one \
                 sounds, in 200 numbers. Close it whenever you like: its track goes to somebody else."
            </p>
            <label for="code">"Pairing code"</label>
            <div class="code-row">
                <input
                    id="code"
                    class="code-input"
                    type="text"
                    placeholder="K7Q-M4X-WDP"
                    autocomplete="off"
                    autocapitalize="characters"
                    spellcheck="false"
                    maxlength="40"
                    prop:value=code
                    on:input:target=move |event| code.set(event.target().value())
                    aria-invalid=move || problem.with(Option::is_some).to_string()
                    aria-describedby="code-problem"
                />
                <p id="code-problem" class="field-problem" role="alert">{problem}</p>
                <button id="join" type="submit" class="button">"Join"</button>
            </div>
            <details class="advanced" prop:open=is_advanced>
                <summary>"Advanced"</summary>
                <label for="device">"Compute on"</label>
                <select
                    id="device"
                    on:change:target=move |event| {
                        device.set(DeviceWish::named(&event.target().value()).unwrap_or(DeviceWish::Auto));
                    }
                >
                    {DeviceWish::ALL
                        .into_iter()
                        .filter(|wish| *wish != DeviceWish::Gpu || Program::Gpu.is_offered())
                        .map(|wish| {
                            let label = match wish {
                                DeviceWish::Auto => "Choose for me: what is fastest here, or both",
                                DeviceWish::Gpu => "GPU (WebGPU)",
                                DeviceWish::Cpu => "CPU",
                            };
                            view! {
                                <option value=wish.name() selected=move || device.get() == wish>{label}</option>
                            }
                        })
                        .collect_view()}
                </select>
                <label for="workers">"Web Workers on the CPU"</label>
                <input
                    id="workers"
                    type="number"
                    inputmode="numeric"
                    min="1"
                    max=MAX_WEB_WORKERS
                    prop:value=web_workers
                    disabled=move || device.get() == DeviceWish::Gpu
                    on:change:target=move |event| {
                        let number = read_web_workers(&event.target().value()).unwrap_or(default_web_workers);
                        web_workers.set(number);
                        // Set even if the number is unchanged, because the field may show another one.
                        event.target().set_value(&number.to_string());
                    }
                    aria-describedby="workers-hint"
                />
                <p class="hint" id="workers-hint">"Each uses one core. On the GPU there is always one."</p>
                <Show when=|| !window().is_secure_context()>
                    <p class="hint">
                        "This page came over plain HTTP, and browsers offer their GPU only to https pages and to localhost: \
                         here the CPU will do the work."
                    </p>
                </Show>
            </details>
        </form>
        <InstallProgram code=Signal::derive(move || code.with(|code| code.parse::<PairingCode>().ok())) />
    }
}

/// The current or last run.
#[component]
fn RunCard(lending: Lending) -> impl IntoView {
    let headline = Memo::new(move |_| lending_headline(lending));
    let step = Memo::new(move |_| lending.step());
    let counters = Memo::new(move |_| lending.counters());
    let rows = part(lending, rows);
    let next = part(lending, up_next);
    let rate = part(lending, |run| run.statuses().map(|status| status.tracks_per_minute).sum::<f32>());
    let tracks_per_minute = move || {
        let rate = rate.get();
        if rate.is_finite() && rate > 0.0 { format!("{rate:.1}") } else { "–".into() }
    };
    view! {
        <section class="card run" id="run" data-step=move || step.with(Step::name)>
            <div class=move || format!("now now-{}", headline.with(|line| line.mood.name()))>
                <span class="pulse" aria-hidden="true">
                    <i></i>
                    <i></i>
                    <i></i>
                    <i></i>
                </span>
                <p class="headline" id="headline" role="status" tabindex="-1">{move || headline.get().text}</p>
            </div>
            <ul class="currents" class:hidden=move || rows.with(Vec::is_empty)>
                <For each=move || rows.get() key=|number| *number let:number>
                    <CurrentTrack
                        lending
                        number
                        is_first=Signal::derive(move || rows.with(|rows| rows.first() == Some(&number)))
                    />
                </For>
            </ul>
            <p class="up-next" class:hidden=move || next.with(Option::is_none)>
                "Up next: "
                {move || next.get().map(|job| next_text(&job))}
            </p>
            <dl class="tiles" class:hidden=move || !lending.is_active() && counters.get() == Counters::default()>
                <div>
                    <dt>"Done"</dt>
                    <dd id="done">{move || format::grouped(counters.get().done)}</dd>
                </div>
                <div class:has-failed=move || { counters.get().failed > 0 }>
                    <dt>"Failed"</dt>
                    <dd id="failed">{move || format::grouped(counters.get().failed)}</dd>
                </div>
                <div>
                    <dt>"Per minute"</dt>
                    <dd>{tracks_per_minute}</dd>
                </div>
            </dl>
            <Show when=move || lending.is_active()>
                <RunFoot lending step />
            </Show>
        </section>
    }
}

/// The devices of the run, the stop button, and hints.
#[component]
fn RunFoot(lending: Lending, step: Memo<Step>) -> impl IntoView {
    let devices = part(lending, devices);
    let note = part(lending, |run| run.note().map(str::to_owned));
    let speeds = part(lending, |run| run.trial().speeds.in_words());
    let on_a_phone = if wake_lock::is_offered() {
        "keep this one in front: phones halt tabs in the background."
    } else {
        "keep this one in front and the screen on: phones halt other tabs, and this page cannot keep the screen on."
    };
    focus_moves_on(".run-foot", "headline");
    view! {
        <div class="run-foot">
            <div class="run-device" id="device-used">
                {move || devices.get().into_iter().map(|device| view! { <DeviceBadge device /> }).collect_view()}
                {move || note.get().map(|note| view! { <p class="hint">{format::sentence(&note)}</p> })}
                {move || speeds.get().map(|speeds| view! { <p class="hint" id="speeds">{format::sentence(&speeds)}</p> })}
            </div>
            // A second press has no effect.
            <button
                id="stop"
                type="button"
                class="quiet"
                on:click=move |_| lending.stop()
                aria-disabled=move || step.with(|step| *step == Step::Stopping).to_string()
            >
                "Stop"
            </button>
        </div>
        <p class="hint">{format!("Other tabs may be used meanwhile. On a phone {on_a_phone}")}</p>
    }
}

/// The current track of the Web Worker in this slot.
#[component]
fn CurrentTrack(lending: Lending, number: usize, is_first: Signal<bool>) -> impl IntoView {
    let job = part(lending, move |run| first_job(run.slots().get(number)?).cloned());
    let percent = Signal::derive(move || job.with(|job| job.as_ref().map_or(0, |job| format::percent(job.fraction))));
    view! {
        <li class="current">
            <p class="track" class:idle=move || job.with(Option::is_none) id=move || is_first.get().then_some("current")>
                {move || job.get().map_or_else(|| "Waiting for a track".into(), |job| job.label)}
            </p>
            <div class="current-bar">
                <Bar percent label="Progress of this track" />
                <span>{move || format!("{} %", percent.get())}</span>
            </div>
        </li>
    }
}

/// A part of the run that changes less often than the run.
fn part<T>(lending: Lending, part: impl Fn(&Run) -> T + Send + Sync + 'static) -> Memo<T>
where
    T: Default + PartialEq + Send + Sync + 'static,
{
    Memo::new(move |_| lending.run.with(|run| run.as_ref().map(&part).unwrap_or_default()))
}

/// The slots to show: all in use, so that rows do not appear and disappear between tracks; none while no slot has a
/// track.
fn rows(run: &Run) -> Vec<usize> {
    let is_in_use = |slot: &Slot| slot.step() != SlotStep::Over;
    if run.slots().iter().all(|slot| first_job(slot).is_none()) {
        return Vec::new();
    }
    run.slots().iter().enumerate().filter(|(_, slot)| is_in_use(slot)).map(|(number, _)| number).collect()
}

fn first_job(slot: &Slot) -> Option<&JobStatus> {
    slot.status()?.jobs.first()
}

/// The next track; not shown for several Web Workers, which would need a list.
fn up_next(run: &Run) -> Option<JobStatus> {
    let [slot] = run.slots() else { return None };
    slot.status()?.jobs.get(1).cloned()
}

/// The devices of the Web Workers: the GPU, the CPU (once for all of them), or both.
fn devices(run: &Run) -> Vec<Device> {
    let all = || run.statuses().filter_map(|status| status.device.clone());
    let gpu = all().find(|device| device.backend != CPU_BACKEND);
    let cpu = all().find(|device| device.backend == CPU_BACKEND).map(|device| {
        let is_counted = |slot: &&Slot| slot.step() != SlotStep::Over && slot.program() == Program::Cpu;
        let web_workers = run.slots().iter().filter(is_counted).count();
        let web_workers = format::counted(web_workers as u64, "Web Worker", "Web Workers");
        Device { name: format!("CPU, {web_workers}"), ..device }
    });
    gpu.into_iter().chain(cpu).collect()
}

fn next_text(job: &JobStatus) -> String {
    match job.stage {
        Stage::Fetching => format!("{} (fetching, {} %)", job.label, format::percent(job.fraction)),
        Stage::Waiting | Stage::Analysing => job.label.clone(),
    }
}

/// The mood of the run; determines colour and motion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    /// A track is in work.
    Busy,
    /// Nothing to do at the moment, or still connecting.
    Waiting,
    /// There is a problem.
    Trouble,
    /// The run has ended.
    Resting,
}

impl Mood {
    fn name(self) -> &'static str {
        match self {
            Self::Busy => "busy",
            Self::Waiting => "waiting",
            Self::Trouble => "trouble",
            Self::Resting => "resting",
        }
    }
}

/// The state of the run in one line.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Headline {
    mood: Mood,
    text: String,
}

impl Step {
    /// A name for style sheets and tests.
    fn name(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Loading => "loading",
            Self::Working => "working",
            Self::Stopping => "stopping",
            Self::Over { .. } => "over",
        }
    }
}

fn lending_headline(lending: Lending) -> Headline {
    lending.run.with(|run| match run {
        Some(run) => headline(&run.step(), foremost(run.statuses())),
        None => headline(&Step::Idle, None),
    })
}

/// The status that best represents the run: connected comes before waiting for the next attempt, and that before still
/// connecting.
fn foremost<'a>(statuses: impl Iterator<Item = &'a Status>) -> Option<&'a Status> {
    let weight = |status: &Status| match (&status.phase, status.jobs.first()) {
        (Phase::Connected, Some(JobStatus { stage: Stage::Analysing, .. })) => 6,
        (Phase::Connected, Some(_)) => 5,
        (Phase::Connected, None) => 4,
        (Phase::BackingOff { .. }, _) => 3,
        (Phase::Connecting, _) => 2,
        (Phase::Starting, _) => 1,
        (Phase::Stopping | Phase::Stopped { .. }, _) => 0,
    };
    statuses.reduce(|best, status| if weight(status) > weight(best) { status } else { best })
}

fn headline(step: &Step, status: Option<&Status>) -> Headline {
    let (mood, text) = match (step, status) {
        (Step::Idle, _) => (Mood::Resting, "Ready when you are.".into()),
        (Step::Loading, _) => (Mood::Waiting, "Loading the listening program…".into()),
        (Step::Stopping, _) => (Mood::Waiting, "Stopping: handing back what is held…".into()),
        (Step::Over { reason: Some(reason) }, _) => (Mood::Trouble, format::sentence(reason)),
        (Step::Over { reason: None }, _) => (Mood::Resting, "Stopped. Thank you for lending a hand.".into()),
        (Step::Working, None) => (Mood::Waiting, "Getting ready…".into()),
        (Step::Working, Some(status)) => work_line(status),
    };
    Headline { mood, text }
}

fn work_line(status: &Status) -> (Mood, String) {
    match &status.phase {
        Phase::Starting => (Mood::Waiting, "Getting ready: loading the model and trying out the device…".into()),
        Phase::Connecting => (Mood::Waiting, "Connecting…".into()),
        Phase::BackingOff { seconds, reason } => (
            Mood::Trouble,
            format!("Connection lost ({}). Trying again in {:.0} s.", reason.trim_end_matches('.'), seconds.max(1.0)),
        ),
        Phase::Stopping => (Mood::Waiting, "Stopping: handing back what is held…".into()),
        Phase::Stopped { .. } => (Mood::Resting, "Stopped.".into()),
        Phase::Connected => {
            if let Some(job) = status.jobs.first() {
                return (Mood::Busy, format::stage(job.stage).into());
            }
            let text = match status.session {
                Some(SessionState::Paused) => "The owner has paused. It goes on by itself.",
                // Whether the tracks succeeded, failed or were dropped matters only to the owner.
                Some(SessionState::Complete) => {
                    "No track is waiting. Thank you! You can close this tab, or stay for more."
                }
                Some(SessionState::Ended) => "The owner has ended this session.",
                Some(SessionState::Idle) => "Connected. The owner has not chosen any music yet.",
                Some(SessionState::Running) | None => "Connected. Waiting for a track…",
            };
            (Mood::Waiting, text.into())
        }
    }
}

/// Title of the browser's tab, which is all one sees while another tab is in front.
fn title(headline: &Headline, done: u64) -> String {
    match headline.mood {
        Mood::Busy => format!("♪ {} done – ChaarFM Worker", format::grouped(done)),
        Mood::Trouble => "⚠ Needs a look – ChaarFM Worker".into(),
        Mood::Waiting => "Waiting – ChaarFM Worker".into(),
        Mood::Resting => "Join – ChaarFM Worker".into(),
    }
}

#[cfg(test)]
mod tests {
    use chaarfm_protocol::{Trial, WorkerKey};
    use wasm_bindgen_test::wasm_bindgen_test as test;

    use super::*;

    fn connected(session: SessionState, jobs: Vec<JobStatus>) -> Status {
        Status {
            phase: Phase::Connected,
            device: None,
            trial: Trial::default(),
            session: Some(session),
            jobs,
            done: 0,
            failed: 0,
            tracks_per_minute: 0.0,
        }
    }

    fn job() -> JobStatus {
        JobStatus { label: "A – T".into(), stage: Stage::Analysing, fraction: 0.5 }
    }

    #[test]
    fn the_headline_tells_a_paused_session_from_a_lost_connection() {
        let paused = headline(&Step::Working, Some(&connected(SessionState::Paused, vec![])));
        assert_eq!(paused.mood, Mood::Waiting);
        assert!(paused.text.contains("paused"), "{}", paused.text);

        let phase = Phase::BackingOff { seconds: 4.2, reason: "the server is silent.".into() };
        let lost = headline(&Step::Working, Some(&Status { phase, ..connected(SessionState::Running, vec![]) }));
        assert_eq!(lost.mood, Mood::Trouble);
        assert_eq!(lost.text, "Connection lost (the server is silent). Trying again in 4 s.");
    }

    #[test]
    fn a_job_finished_during_a_pause_is_still_work() {
        let line = headline(&Step::Working, Some(&connected(SessionState::Paused, vec![job()])));
        assert_eq!(line.mood, Mood::Busy);
    }

    #[test]
    fn stopping_wins_over_what_the_worker_last_said() {
        let line = headline(&Step::Stopping, Some(&connected(SessionState::Running, vec![job()])));
        assert!(line.text.starts_with("Stopping"), "{}", line.text);
    }

    #[test]
    fn one_that_listens_speaks_for_all() {
        let phase = Phase::BackingOff { seconds: 4.2, reason: "the session is full".into() };
        let not_let_in = Status { phase, ..connected(SessionState::Running, vec![]) };
        let waiting = connected(SessionState::Running, vec![]);
        let fetching = connected(SessionState::Running, vec![JobStatus { stage: Stage::Fetching, ..job() }]);
        let listening = connected(SessionState::Running, vec![job()]);
        let all = [&not_let_in, &waiting, &fetching, &listening];
        for count in 1..=all.len() {
            assert_eq!(foremost(all[..count].iter().copied()), Some(all[count - 1]));
            assert_eq!(foremost(all[..count].iter().copied().rev()), Some(all[count - 1]));
        }
        assert_eq!(foremost([].into_iter()), None);
    }

    /// A run with this many Web Workers on the CPU, and the jobs of each.
    fn run(jobs: &[&[JobStatus]]) -> Run {
        let web_workers = u8::try_from(jobs.len()).unwrap();
        let code = "K7Q-M4X-WDP".parse().unwrap();
        let mut run = Run::new(Terms { code, device: DeviceWish::Cpu, web_workers });
        run.choose(None);
        for (slot, jobs) in jobs.iter().enumerate() {
            run.ready(slot, "http://localhost".into(), WorkerKey::from_random(7));
            let cpu = Device { backend: CPU_BACKEND.into(), name: "CPU, 1 thread".into() };
            run.hear(slot, Status { device: Some(cpu), ..connected(SessionState::Running, jobs.to_vec()) });
        }
        run
    }

    #[test]
    fn rows_stay_while_anybody_works() {
        assert_eq!(rows(&run(&[&[], &[]])), [0; 0]);
        let mut run = run(&[&[], &[job()], &[]]);
        assert_eq!(rows(&run), [0, 1, 2]);
        run.ended(0, None);
        assert_eq!(rows(&run), [1, 2]);
    }

    #[test]
    fn what_comes_next_is_said_of_a_single_web_worker() {
        let next = JobStatus { label: "B – T".into(), ..job() };
        let jobs = [job(), next.clone()];
        assert_eq!(up_next(&run(&[&jobs])), Some(next));
        assert_eq!(up_next(&run(&[&jobs, &jobs])), None);
    }

    #[test]
    fn the_device_line_counts_web_workers() {
        let line = |run: &Run| devices(run).into_iter().map(|device| device.name).collect::<Vec<_>>();
        assert_eq!(line(&run(&[&[]])), ["CPU, 1 Web Worker"]);
        let mut three = run(&[&[], &[], &[]]);
        assert_eq!(line(&three), ["CPU, 3 Web Workers"]);
        three.ended(1, None);
        assert_eq!(line(&three), ["CPU, 2 Web Workers"]);
    }
}
